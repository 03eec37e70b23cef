"""Nodes that a program has one operation for become one, compute the same, and stay apart where what is between is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.model.base import Model

RNG = np.random.default_rng(0)


def saved(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    **constants: np.ndarray,
) -> Model:
    """A model of one input ``x``."""
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    entries = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "g", entries, ends, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "fused.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return cp.load(path)


def operations(model: Model) -> Counter[str]:
    return Counter(node.operator for node in model.graph.nodes)


def converted(source: Model, target: str = "iOS18", keep: Sequence[str] = ()) -> Counter[str]:
    """What a program in float32 is made of, which was held against its source."""
    made = cp.convert(source, "mlprogram", precision="fp32", target=target, keep_fp32=keep)
    verdict = cp.verify(source, made)
    assert verdict.agrees, verdict.summary()
    return operations(made)


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("shape", [(2, 4), (1, 3, 4), (1, 2, 3, 4), (1, 2, 1, 3, 4)])
@pytest.mark.parametrize("order", ["p b", "b p"])
def test_a_product_and_its_bias_are_a_linear(tmp_path: Path, shape: tuple[int, ...], order: str) -> None:
    nodes = [node("MatMul", "x w", "p"), node("Add", order, "y")]
    assert converted(saved(tmp_path, nodes, shape, w=weights(4, 5), b=weights(5))) == {"linear": 1}


@pytest.mark.parametrize("bias", [(1,), (3, 1), (2, 3, 5), (1, 1, 1, 5)])
def test_what_is_no_bias_is_added(tmp_path: Path, bias: tuple[int, ...]) -> None:
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "y")]
    assert converted(saved(tmp_path, nodes, (2, 3, 4), w=weights(4, 5), b=weights(*bias)))["add"] == 1


def test_silu_is_one_operation(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "s x", "y")]
    assert converted(saved(tmp_path, nodes, (2, 3))) == {"silu": 1}


def test_a_sigmoid_that_scales_another_value_stays(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Sigmoid", "x", "s"), node("Mul", "s r", "y")]
    assert converted(saved(tmp_path, nodes, (2, 3)))["sigmoid"] == 1


def test_what_is_read_twice_or_handed_out_stays(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "s x", "y")]
    assert converted(saved(tmp_path, nodes, (2, 3), ["y", "s"]))["sigmoid"] == 1
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "s x", "m"), node("Add", "m s", "y")]
    assert converted(saved(tmp_path, nodes, (2, 3)))["sigmoid"] == 1


@pytest.mark.parametrize("keep", ["s", "Sigmoid", "y", "Mul"])
def test_what_is_kept_in_float32_by_name_stays_by_itself(tmp_path: Path, keep: str) -> None:
    source = saved(tmp_path, [node("Sigmoid", "x", "s"), node("Mul", "s x", "y")], (2, 3))
    assert converted(source, keep=[keep])["sigmoid"] == 1


ROOT, ONE, HALF = np.float32(2**0.5), np.float32(1), np.float32(0.5)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"), node("Mul", "x a", "m"),
         node("Mul", "m half", "y")],
        [node("Mul", "inverse x", "d"), node("Erf", "d", "e"), node("Add", "one e", "a"), node("Mul", "a half", "m"),
         node("Mul", "m x", "y")],
        [node("Mul", "x half", "h"), node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"),
         node("Mul", "h a", "y")],
    ],
)  # fmt: skip
def test_gelu_is_one_operation_however_it_is_multiplied(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    source = saved(tmp_path, nodes, (2, 3), root=ROOT, inverse=1 / ROOT, one=ONE, half=HALF)
    assert converted(source) == {"gelu": 1}


def test_an_erf_of_other_factors_is_no_gelu(tmp_path: Path) -> None:
    nodes = [node("Div", "x two", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"), node("Mul", "x a", "m"),
             node("Mul", "m half", "y")]  # fmt: skip
    assert "gelu" not in converted(saved(tmp_path, nodes, (2, 3), two=np.float32(2), one=ONE, half=HALF))


@pytest.mark.sweep(3)
@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("last", ["Flatten", "Reshape"])
@pytest.mark.parametrize("average", ["GlobalAveragePool", "ReduceMean"])
def test_an_average_and_its_flattening_are_one_mean(tmp_path: Path, average: str, last: str, opset: int) -> None:
    if average == "GlobalAveragePool":
        first = node(average, "x", "p")
    else:
        first = node(average, "x", "p", axes=[-1, -2]) if opset < 18 else node(average, "x axes", "p")
    second = node("Flatten", "p", "y") if last == "Flatten" else node("Reshape", "p flat", "y")
    constants = {"axes": np.array([-1, -2])} if opset >= 18 and average == "ReduceMean" else {}
    constants |= {"flat": np.array([2, 3])} if last == "Reshape" else {}
    source = saved(tmp_path, [first, second], (2, 3, 4, 5), opset=opset, **constants)
    assert converted(source) == {"reduce_mean": 1}


def test_transpositions_that_follow_each_other_are_one_or_none(tmp_path: Path) -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Transpose", "t", "y", perm=[0, 2, 1, 3])]
    assert converted(saved(tmp_path, nodes, (1, 2, 3, 4))) == {"transpose": 1}
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Transpose", "t", "u", perm=[0, 3, 1, 2]),
        node("Relu", "u", "y"),
    ]
    assert converted(saved(tmp_path, nodes, (1, 2, 3, 4))) == {"relu": 1}


def test_what_only_moves_axes_of_one_is_a_reshape(tmp_path: Path) -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Reshape", "t flat", "y")]
    assert converted(saved(tmp_path, nodes, (1, 1, 1, 6), flat=np.array([0, -1]))) == {"reshape": 1}
    assert converted(saved(tmp_path, nodes, (1, 2, 1, 6), flat=np.array([0, -1])))["transpose"] == 1


@pytest.mark.parametrize(("gone", "count"), [(3, 1), (2, 3)])
def test_an_axis_that_comes_and_goes_is_left_out(tmp_path: Path, gone: int, count: int) -> None:
    nodes = [
        node("Unsqueeze", "x first", "u"), node("Transpose", "u", "t", perm=[3, 1, 2, 0, 4]),
        node("Squeeze", "t gone", "y"),
    ]  # fmt: skip
    source = saved(tmp_path, nodes, (5, 1, 3, 4), first=np.array([0]), gone=np.array([gone - 5]))
    assert sum(converted(source).values()) == count


def test_the_attention_of_pytorch_s_own_layer_is_found(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "h", perm=[1, 0, 2]), node("Reshape", "h wide", "q"), node("Transpose", "h", "g", perm=[0, 2, 1]),
        node("Reshape", "g back", "k"), node("MatMul", "q k", "scores"), node("Softmax", "scores", "shares", axis=-1),
        node("MatMul", "shares q", "y"),
    ]  # fmt: skip
    source = saved(tmp_path, nodes, (5, 2, 4), wide=np.array([1, 2, 5, 4]), back=np.array([1, 2, 4, 5]))
    assert converted(source)["scaled_dot_product_attention"] == 1


@pytest.mark.parametrize(("start", "end"), [(1, 2), (-1, 2**31), (-2, -1)])
def test_one_position_of_an_axis_is_one_slice(tmp_path: Path, start: int, end: int) -> None:
    nodes = [node("Slice", "x start end axis", "s"), node("Squeeze", "s axis", "y")]
    constants = {"start": np.array([start]), "end": np.array([end]), "axis": np.array([1])}
    assert converted(saved(tmp_path, nodes, (2, 3, 4), **constants)) == {"slice_by_index": 1}


def attention(folder: Path, *, turned: bool, scale: float, added: bool = False) -> Model:
    nodes = [node("Mul", "x two", "q")]
    if turned:
        nodes += [
            node("Reshape", "x flat", "f"),
            node("Transpose", "f", "g", perm=[0, 2, 1]),
            node("Reshape", "g back", "k"),
        ]
    else:
        nodes += [node("Transpose", "x", "k", perm=[0, 1, 3, 2])]
    nodes += [node("MatMul", "q k", "scores"), *([node("Add", "scores mask", "masked")] if added else [])]
    nodes += [node("Softmax", "masked" if added else "scores", "shares", axis=-1), node("MatMul", "shares x", "y")]
    return saved(
        folder, nodes, (1, 2, 3, 4), two=np.float32(scale), flat=np.array([2, 3, 4]), back=np.array([1, 2, 4, 3]),
        mask=weights(3, 3),
    )  # fmt: skip


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(("scale", "factors"), [(0.5, 0), (0.3, 1)])
def test_attention_is_core_ml_s_own_from_ios_18_on(tmp_path: Path, turned: bool, scale: float, factors: int) -> None:
    found = converted(attention(tmp_path, turned=turned, scale=scale))
    assert found == Counter(
        {"scaled_dot_product_attention": 1, "mul": factors} if factors else {"scaled_dot_product_attention": 1}
    )


@pytest.mark.parametrize("turned", [True, False])
def test_attention_for_an_older_system_turns_no_key(tmp_path: Path, turned: bool) -> None:
    found = converted(attention(tmp_path, turned=turned, scale=0.5), "iOS17")
    assert found == {"mul": 1, "matmul": 2, "softmax": 1}


def test_attention_with_a_mask_keeps_its_scores(tmp_path: Path) -> None:
    assert converted(attention(tmp_path, turned=True, scale=0.5, added=True))["softmax"] == 1


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_half_and_a_neural_network_answer_alike(tmp_path: Path, to: Literal["mlprogram", "neuralnetwork"]) -> None:
    source = attention(tmp_path, turned=True, scale=0.5)
    assert cp.verify(source, cp.convert(source, to)).agrees


def shuffle(perm: Sequence[int] = (0, 2, 1, 3, 4)) -> list[onnx.NodeProto]:
    return [
        node("Relu", "x", "r"),
        node("Neg", "x", "n"),
        node("Concat", "x r n", "j", axis=1),
        node("Reshape", "j apart", "a"),
        node("Transpose", "a", "t", perm=list(perm)),
        node("Reshape", "t back", "y"),
    ]


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_that_are_dealt_out_in_turn_are_one_concat(tmp_path: Path, batch: int) -> None:
    """ShuffleNet's; judged by NumPy, as no model of ONNX says it in one node."""
    lengths = {"apart": np.array([batch, 3, 4, 5, 6]), "back": np.array([batch, 12, 5, 6])}
    source = saved(tmp_path, shuffle(), (batch, 4, 5, 6), **lengths)
    made = cp.convert(source, "mlprogram")
    assert not {"reshape", "transpose"} & set(operations(made))
    assert cp.verify(source, made)
    x = weights(batch, 4, 5, 6)
    with cp.session(made) as running:
        (found,) = running.run({"x": x}).values()
    expected = np.stack([x, np.maximum(x, 0), -x], axis=2).reshape(batch, 12, 5, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("apart", "perm"),
    [((1, 4, 3, 5, 6), (0, 2, 1, 3, 4)), ((1, 3, 4, 5, 6), (0, 2, 1, 4, 3)), ((1, 6, 2, 5, 6), (0, 2, 1, 3, 4))],
)
def test_channels_that_are_dealt_out_otherwise_stay(tmp_path: Path, apart: Sequence[int], perm: Sequence[int]) -> None:
    lengths = {"apart": np.array(apart), "back": np.array([1, 12, 5, 6])}
    assert converted(saved(tmp_path, shuffle(perm), (1, 4, 5, 6), **lengths))["transpose"] == 1
