"""Core AI's branches, loops and calls, against what Python makes of the same."""

import numpy as np
import pytest

from coreproof.errors import ConversionError, UnsupportedOperatorsError
from tests.conversion.coreai_to_onnx.functions import block, function, model, op, run

X = np.array([1.0, -2.0, 3.0], np.float32)
F = "tensor<3xf32>"


def test_of_two_branches_the_one_that_is_true_is_taken() -> None:
    body = [
        op(
            "if",
            ["go"],
            ["y"],
            block([], op("add", ["x", "x"], ["a"]), op("yield", ["a"], [])),
            block([], op("yield", ["x"], [])),
        ),
        op("output", ["y"], []),
    ]
    made = model(function("main", ["go", "x"], body, {"go": "tensor<i1>", "x": F, "a": F, "y": F}))
    np.testing.assert_array_equal(run(made, go=np.array(True), x=X)["y"], X + X)
    np.testing.assert_array_equal(run(made, go=np.array(False), x=X)["y"], X)


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_loop_goes_on_as_long_as_its_condition_holds(turns: int) -> None:
    before = block(["i", "s"], op("greater", ["n", "i"], ["c"]), op("condition", ["c", "i", "s"], []))
    after = block(
        ["j", "t"],
        op("constant", [], ["one"], constant=np.array(1, np.int32)),
        op("add", ["j", "one"], ["k"]),
        op("add", ["t", "x"], ["u"]),
        op("yield", ["k", "u"], []),
    )
    body = [
        op("constant", [], ["zero"], constant=np.array(0, np.int32)),
        op("while", ["zero", "x"], ["last", "y"], before, after),
        op("output", ["last", "y"], []),
    ]
    whole = "tensor<si32>"
    types = {
        **dict.fromkeys(("n", "i", "j", "k", "one", "zero", "last"), whole),
        **dict.fromkeys(("x", "s", "t", "u", "y"), F),
        "c": "tensor<i1>",
    }
    found = run(model(function("main", ["n", "x"], body, types)), n=np.array(turns, np.int32), x=X)
    assert found["last"] == turns
    np.testing.assert_array_equal(found["y"], X * (turns + 1))


def _twice() -> tuple[object, ...]:
    return function(
        "twice", ["a"], [op("add", ["a", "a"], ["b"]), op("output", ["b"], [])], {"a": F, "b": F}, private=True
    )


def test_what_is_invoked_is_computed_each_time_it_is() -> None:
    body = [
        op("invoke", ["x"], ["once"], callee="#param.constant<@twice> : !param.symbol"),
        op("invoke", ["once"], ["y"], callee="#param.constant<@twice> : !param.symbol"),
        op("output", ["y"], []),
    ]
    made = model(_twice(), function("main", ["x"], body, {"x": F, "once": F, "y": F}))
    np.testing.assert_array_equal(run(made, x=X)["y"], X * 4)


def test_functions_that_invoke_each_other_without_an_end_are_refused() -> None:
    call = [op("invoke", ["x"], ["y"], callee="#param.constant<@main> : !param.symbol"), op("output", ["y"], [])]
    with pytest.raises(ConversionError, match="without an end"):
        run(model(function("main", ["x"], call, {"x": F, "y": F})), x=X)


def test_a_group_is_what_is_in_it() -> None:
    body = [
        op("isolated_group", ["x"], ["y"], block(["a"], op("relu", ["a"], ["b"]), op("yield", ["b"], []))),
        op("output", ["y"], []),
    ]
    made = model(function("main", ["x"], body, {"x": F, "a": F, "b": F, "y": F}))
    np.testing.assert_array_equal(run(made, x=X)["y"], np.maximum(X, 0))


def test_all_that_is_not_lowered_is_named_also_where_it_is_invoked() -> None:
    inner = function(
        "inner", ["a"], [op("delegate", ["a"], ["b"]), op("output", ["b"], [])], {"a": F, "b": F}, private=True
    )
    body = [
        op("invoke", ["x"], ["z"], callee="#param.constant<@inner> : !param.symbol"),
        op("metal4_kernel", ["z"], ["y"]),
        op("output", ["y"], []),
    ]
    with pytest.raises(UnsupportedOperatorsError) as raised:
        run(model(inner, function("main", ["x"], body, {"x": F, "z": F, "y": F})), x=X)
    assert "coreai.delegate" in str(raised.value)
    assert "coreai.metal4_kernel" in str(raised.value)


REDUCED = np.array([[1.5, 7, -2], [4, -3, 7]], np.float32)


@pytest.mark.parametrize(
    ("kind", "first", "expected"),
    [("add", 10.0, REDUCED.sum(1) + 10), ("mul", 2.0, REDUCED.prod(1) * 2), ("maximum", 5.0, [7, 7]), ("minimum", 0.0, [-2, -3])],
)  # fmt: skip
def test_a_reduction_by_a_block_begins_with_its_first_value(kind: str, first: float, expected: np.ndarray) -> None:
    combine = block(["p", "q"], op(kind, ["p", "q"], ["r"]), op("yield", ["r"], []))
    body = [
        op("constant", [], ["axes"], constant=np.array([1], np.int32)),
        op("constant", [], ["first"], constant=np.array(first, np.float32)),
        op("reduce", ["x", "axes", "first"], ["y"], combine),
        op("output", ["y"], []),
    ]
    types = {
        "x": "tensor<2x3xf32>",
        "y": "tensor<2x1xf32>",
        "axes": "tensor<1xsi32>",
        **dict.fromkeys("pqr", "tensor<f32>"),
    }
    found = run(model(function("main", ["x"], body, {**types, "first": "tensor<f32>"})), x=REDUCED)
    np.testing.assert_allclose(found["y"].ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("largest", "first", "expected"), [(True, 0.0, [1, 2]), (False, 0.0, [2, 1]), (True, 100.0, [0, 0])]
)
def test_an_index_is_that_of_the_first_that_wins_over_the_first_value(
    largest: bool, first: float, expected: list[int]
) -> None:
    order = ["q", "p"] if largest else ["p", "q"]
    compare = block(["p", "q"], op("greater", order, ["r"]), op("yield", ["r"], []))
    body = [
        op("constant", [], ["axis"], constant=np.array(1, np.int32)),
        op("constant", [], ["first"], constant=np.array(first, np.float32)),
        op("constant", [], ["none"], constant=np.array(0, np.uint32)),
        op("reduce_index", ["x", "axis", "first", "none"], ["y"], compare),
        op("output", ["y"], []),
    ]
    types = {
        "x": "tensor<2x3xf32>", "y": "tensor<2x1xui32>", "axis": "tensor<si32>", "first": "tensor<f32>", "none": "tensor<ui32>",
        "p": "tensor<f32>", "q": "tensor<f32>", "r": "tensor<i1>",
    }  # fmt: skip
    assert run(model(function("main", ["x"], body, types)), x=REDUCED)["y"].ravel().tolist() == expected


def test_slices_are_written_where_the_indices_say() -> None:
    take = block(["p", "q"], op("yield", ["q"], []))
    body = [
        op("constant", [], ["at"], constant=np.array([[2], [-3]], np.int32)),
        op("scatter_nd", ["x", "at", "u"], ["y"], take),
        op("output", ["y"], []),
    ]
    types = {
        "x": "tensor<3x2xf32>", "at": "tensor<2x1xsi32>", "u": "tensor<2x2xf32>", "y": "tensor<3x2xf32>",
        "p": "tensor<f32>", "q": "tensor<f32>",
    }  # fmt: skip
    x, u = np.zeros((3, 2), np.float32), np.array([[1, 2], [3, 4]], np.float32)
    found = run(model(function("main", ["x", "u"], body, types)), x=x, u=u)
    np.testing.assert_array_equal(found["y"], [[3, 4], [0, 0], [1, 2]])


def test_a_sparse_weight_is_unpacked() -> None:
    body = [
        op("constant", [], ["held"], constant=np.array([10, 20, 30], np.float32)),
        op("constant", [], ["mask"], constant=np.array([[0, 1, 0], [1, 0, 1]], bool)),
        op("build_sparse_with_bitmask", ["held", "mask"], ["packed"]),
        op("sparse_with_bitmask_to_dense", ["packed"], ["w"]),
        op("add", ["x", "w"], ["y"]),
        op("output", ["y"], []),
    ]
    whole = "tensor<2x3xf32>"
    types = {"held": F, "mask": "tensor<2x3xi1>", "w": whole, "x": whole, "y": whole}
    found = run(model(function("main", ["x"], body, types)), x=np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(found["y"], [[1, 11, 1], [21, 1, 31]])
