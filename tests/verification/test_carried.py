"""What merely follows is told from what is wrong: both sides compute it once more from the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.torch.model import TorchModel
from coreproof.pairing.align import Pair
from coreproof.verification.run import VerificationRun
from coreproof.verification.tolerance import Tolerance
from coreproof.verification.verify import verify
from tests.build import graph_model, onnx_model, onnx_proto

FLOAT = TensorProto.FLOAT


def net(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None, shape: tuple[int, ...] = (4, 64)
) -> OnnxModel:
    made = onnx_proto(nodes, {"x": list(shape)}, {"y": None}, weights)
    return OnnxModel(ir.from_proto(onnx.shape_inference.infer_shapes(made)), name="g")


def rows_of(
    nodes: list[onnx.NodeProto], x: np.ndarray, weights: dict[str, np.ndarray] | None = None
) -> tuple[bool, list[str]]:
    """Whether the float16 ML Program agrees, and the operators of the rows that merely follow."""
    source = net(nodes, weights, x.shape)
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), {"x": x})
    return found.agrees, [row.operator for row in found.carried]


STEEP = np.linspace(-1.56, 1.56, 256, dtype=np.float32).reshape(4, 64)


@pytest.mark.parametrize(
    ("operator", "edge"), [("Floor", 3 - 1e-4), ("Ceil", 3 + 1e-4), ("Round", 2.5001), ("Sign", 1e-9)]
)
def test_a_step_that_rounding_crosses_is_no_fault(operator: str, edge: float) -> None:
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    x[:, :8] = edge  # float16 puts it on the other side
    nodes = [helper.make_node("Mul", ["x", "one"], ["m"]), helper.make_node(operator, ["m"], ["y"])]
    agrees, carried = rows_of(nodes, x, {"one": np.float32(1.0)})
    assert agrees
    assert carried


def test_what_a_step_makes_of_nothing_but_zeros_is_judged_by_its_own_size() -> None:
    """The source's floors are all 0, the candidate's one of them is 1: the arc tangent of that is rounded to float16 like any."""
    nodes = [
        helper.make_node("Ceil", ["s"], ["c"]),
        helper.make_node("Max", ["c", "x"], ["m"]),
        helper.make_node("Sin", ["m"], ["w"]),
        helper.make_node("Abs", ["w"], ["a"]),
        helper.make_node("Floor", ["a"], ["f"]),
        helper.make_node("Atan", ["f"], ["y"]),
    ]
    made = onnx_proto(nodes, {"s": [1], "x": [19]}, {"y": [19]})
    source = OnnxModel(ir.from_proto(onnx.shape_inference.infer_shapes(made)), name="g")
    program = onnx_to_coreml(source, "mlprogram", precision="fp16")
    x = np.linspace(-1, 1, 19, dtype=np.float32)
    x[5] = np.pi / 2 + 0.01  # its sine is 1 in float16
    found = verify(source, program, {"s": np.float32([-0.5]), "x": x})
    assert found.agrees, found.summary()
    assert "all zero in the reference, and up to 0.79 in the candidate" in found.summary()


def test_a_tangent_near_its_pole_makes_much_of_a_rounding() -> None:
    nodes = [helper.make_node("Mul", ["x", "one"], ["m"]), helper.make_node("Tan", ["m"], ["y"])]
    agrees, carried = rows_of(nodes, STEEP, {"one": np.float32(1.0001)})
    assert agrees
    assert "tan" in carried


def test_the_largest_among_equals_may_stand_elsewhere() -> None:
    x = np.full((4, 64), 0.1, np.float32)
    x[:, 5], x[:, 9] = 0.20000, 0.20001
    nodes = [helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("ArgMax", ["m"], ["k"], axis=1, keepdims=0)]
    nodes.append(helper.make_node("Cast", ["k"], ["y"], to=FLOAT))
    agrees, carried = rows_of(nodes, x, {"c": np.float32(1.0)})
    assert agrees
    assert carried


def test_what_is_wrong_itself_is_not_excused_by_what_arrived() -> None:
    """The step is crossed, and the operator behind it computes something else besides."""
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    nodes = [helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("Tan", ["m"], ["t"])]
    nodes.append(helper.make_node("Mul", ["t", "d"], ["y"]))
    source = net(nodes, {"c": np.float32(1.5), "d": np.float32(1.0)})
    other = net(nodes, {"c": np.float32(1.5), "d": np.float32(1.01)})
    found = verify(source, onnx_to_coreml(other, "mlprogram", precision="fp16"), {"x": x})
    assert not found.agrees
    assert found.first_divergence is not None
    assert found.first_divergence.operator == "mul"
    assert "y" in found.first_divergence.reference


def test_what_follows_from_a_fault_is_not_excused() -> None:
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    nodes = [helper.make_node("Mul", ["x", "d"], ["m"]), helper.make_node("Relu", ["m"], ["r"])]
    nodes.append(helper.make_node("Neg", ["r"], ["y"]))
    found = verify(net(nodes, {"d": np.float32(1.0)}), net(nodes, {"d": np.float32(1.05)}), {"x": x})
    assert [row.candidate for row in found.rows if not row.agrees] == ["m", "r", "y"]
    assert not found.carried


def test_numbers_that_are_missing_on_one_side_are_never_excused() -> None:
    """log(1e-9) is -20.7; what float16 makes of 1e-9 is 0, and its logarithm is minus infinity."""
    x = np.full((4, 64), 1e-9, np.float32)
    nodes = [helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("Log", ["m"], ["y"])]
    agrees, _ = rows_of(nodes, x, {"c": np.float32(0.5)})
    assert not agrees


def test_a_bound_that_the_caller_gave_is_kept() -> None:
    nodes = [helper.make_node("Mul", ["x", "one"], ["m"]), helper.make_node("Tan", ["m"], ["y"])]
    source = net(nodes, {"one": np.float32(1.0001)})
    program = onnx_to_coreml(source, "mlprogram", precision="fp16")
    assert verify(source, program, {"x": STEEP})
    assert not verify(source, program, {"x": STEEP}, Tolerance(relative=1e-3))


def test_constants_that_a_converter_computed_may_differ_in_the_last_bits() -> None:
    weights = {"w": np.random.default_rng(1).uniform(-4, 4, (4, 64)).astype(np.float32)}
    nodes = [helper.make_node("Tan", ["w"], ["t"]), helper.make_node("Erf", ["t"], ["e"])]
    nodes.append(helper.make_node("Concat", ["x", "e", "t"], ["y"], axis=0))
    source = net(nodes, weights)
    for precision in ("fp32", "fp16"):
        assert verify(source, onnx_to_coreml(source, "mlprogram", precision=precision))


def test_the_verdict_says_what_arrived(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "one"], ["m"]), helper.make_node("Tan", ["m"], ["y"])]
    source = net(nodes, {"one": np.float32(1.0001)})
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), {"x": STEEP})
    assert "off because of what arrived" in found.summary()
    row = next(r for r in found.to_json()["rows"] if r["carried"] is not None)
    assert row["agrees"]
    assert row["carried"]["agrees"]


def test_a_pytorch_module_computes_its_part_too() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Steep(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: object) -> object:
            return torch.floor(torch.tan(x * 1.0001) * 3)

    module = load((Steep().eval(), (torch.from_numpy(STEEP),)))
    from coreproof.conversion.torch_to_onnx.export import torch_to_onnx

    program = onnx_to_coreml(torch_to_onnx(module), "mlprogram", precision="fp16")
    found = verify(module, program, {"x": STEEP})
    assert found.agrees
    assert found.carried


def test_a_stretch_of_a_pytorch_module_reads_its_own_weights_of_many_alike() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from coreproof.runtime.torch import TorchPart, TorchSession

    module = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3))).eval()
    source = load((module, (torch.randn(2, 4),)))
    assert isinstance(source, TorchModel)
    (*_, before, last) = (n.name for n in source.exported().graph.nodes if n.op == "call_function")
    given = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    with TorchPart(TorchSession(source), [before], [last]) as part:
        made = part.run({before: given})
    with torch.inference_mode():
        expected = module[2](torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(np.asarray(made[last]), expected, rtol=1e-5, atol=1e-6)


def test_what_follows_is_fed_in_the_lengths_of_its_own_sample() -> None:
    """Declared lengths are drawn at both ends: each sample has its own."""
    from coreproof.conversion.convert import convert

    declared = helper.make_tensor_value_info("x", FLOAT, [1, "n"]), helper.make_tensor_value_info("y", FLOAT, [1, "n"])
    nodes = [helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("Tan", ["m"], ["y"])]
    graph = helper.make_graph(nodes, "g", declared[:1], declared[1:], [numpy_helper.from_array(np.float32(7), "c")])
    source = OnnxModel(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])), name="tan")
    found = verify(source, convert(source, "mlprogram", precision="fp16", shapes={"x": [1, (64, 2048)]}))
    assert found, found.summary()
    assert found.carried


def test_a_share_of_what_arrives_is_absolute_in_its_logarithm() -> None:
    """log(1 + x) near zero: what adding 1 rounds off is much of the answer, and no fault of either side."""
    x = np.random.default_rng(0).uniform(-0.05, 0.05, (4, 64)).astype(np.float32)
    numbers = {"one": np.float32(1.0), "two": np.float32(2.0)}
    short = [helper.make_node("Add", ["x", "one"], ["a"]), helper.make_node("Log", ["a"], ["y"])]
    exact = [
        helper.make_node("Add", ["x", "two"], ["b"]),
        helper.make_node("Div", ["x", "b"], ["c"]),
        helper.make_node("Atanh", ["c"], ["d"]),
        helper.make_node("Mul", ["d", "two"], ["y"]),
    ]
    for to, options in (("mlprogram", {"precision": "fp16"}), ("mlprogram", {}), ("neuralnetwork", {})):
        candidate = onnx_to_coreml(net(short, {"one": numbers["one"]}), to, **options)  # type: ignore[arg-type]
        found = verify(net(exact, {"two": numbers["two"]}), candidate, {"x": x})
        assert found, f"{to} {options}: {found.summary()}"


def guarded(end: list[onnx.NodeProto]) -> tuple[OnnxModel, dict[str, np.ndarray]]:
    """log(1 - x) where x is near 1: float16 makes infinity of it."""
    x = np.linspace(0, 0.9, 256, dtype=np.float32).reshape(4, 64)
    x[:, :4] = 1 - 2.0**-14
    nodes = [helper.make_node("Sub", ["one", "x"], ["a"]), helper.make_node("Log", ["a"], ["b"]), *end]
    return net(nodes, {"one": np.float32(1.0), "least": np.float32(-4.0)}), {"x": x}


def test_an_infinity_that_rounding_makes_and_nothing_keeps_is_no_fault() -> None:
    source, fed = guarded([helper.make_node("Max", ["b", "least"], ["y"])])
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), fed)
    assert found, found.summary()
    assert [row.candidate for row in found.carried] == ["b"]


def test_an_infinity_that_rounding_makes_and_an_output_keeps_is_a_fault() -> None:
    source, fed = guarded([helper.make_node("Neg", ["b"], ["n"]), helper.make_node("Mul", ["n", "least"], ["y"])])
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), fed)
    assert not found
    assert not any(row.agrees for row in found.rows if row.candidate in ("b", "n", "y"))


def beyond(factor: float, poles: float = 1.0) -> tuple[OnnxModel, OnnxModel, dict[str, np.ndarray]]:
    """The square of tangents near a pole, which float16 brings nearer, and a source whose numbers are ``poles`` as large."""
    x = np.random.default_rng(0).uniform(-1, 1, (4, 64)).astype(np.float32)
    x[0, 0] = np.pi / 2 - 1.8e-3  # the tangent is 555; of what float16 makes of it, 1.4604e-3 below, 684
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["m"]),
        helper.make_node("Tan", ["m"], ["t"]),
        helper.make_node("Mul", ["t", "factor"], ["s"]),
        helper.make_node("Mul", ["s", "s"], ["y"]),
    ]
    made, wanted = (net(nodes, {"one": np.float32(k), "factor": np.float32(factor)}) for k in (1.0, poles))
    return made, wanted, {"x": x}


def test_an_infinity_to_which_what_arrived_leads_within_the_range_is_no_fault() -> None:
    made, _, fed = beyond(0.435)
    found = verify(made, onnx_to_coreml(made, "mlprogram", precision="fp16"), fed)
    output = next(row for row in found.rows if row.how == "output")
    assert output.judgement.infinite == (0, 1)
    assert found.agrees, found.summary()
    assert "came in" in found.summary()


def test_an_infinity_beyond_the_range_of_the_source_itself_is_a_fault() -> None:
    made, _, fed = beyond(0.5)
    found = verify(made, onnx_to_coreml(made, "mlprogram", precision="fp16"), fed)
    output = next(row for row in found.rows if row.how == "output")
    assert output.judgement.infinite == (0, 1)
    assert not found.agrees


def test_an_infinity_behind_a_wrong_number_is_a_fault() -> None:
    made, wanted, fed = beyond(0.435, poles=0.99)
    assert not verify(wanted, onnx_to_coreml(made, "mlprogram", precision="fp16"), fed).agrees


def gates(kept: float) -> OnnxModel:
    """Two gates of one state, as a GRU has them: each a product, taken apart, and added to its neighbour."""
    rng = np.random.default_rng(5)
    weights = {name: rng.standard_normal((64, 64)).astype(np.float32) / 8 for name in ("u", "v")}
    weights |= {"c": rng.standard_normal(64).astype(np.float32), "k": np.float32(0.0)}
    weights["v"] = weights["v"] * np.float32(kept)
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["zero"]),
        helper.make_node("Gemm", ["zero", "v", "c"], ["d"]),
        helper.make_node("Split", ["d"], ["d0", "d1"], axis=1),
        helper.make_node("Gemm", ["x", "u"], ["a"]),
        helper.make_node("Tanh", ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "v", "c"], ["b"]),
        helper.make_node("Split", ["a"], ["a0", "a1"], axis=1),
        helper.make_node("Split", ["b"], ["b0", "b1"], axis=1),
        helper.make_node("Add", ["a0", "b0"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["r"]),
        helper.make_node("Mul", ["r", "b1"], ["m"]),
        helper.make_node("Add", ["a1", "m"], ["n"]),
        helper.make_node("Tanh", ["n"], ["y"]),
        helper.make_node("Add", ["b1", "d1"], ["z"]),
    ]
    made = onnx_proto(nodes, {"x": [4, 64]}, {"y": None, "z": None}, weights)
    return OnnxModel(ir.from_proto(onnx.shape_inference.infer_shapes(made)), name="gates")


def test_what_is_computed_from_a_wrong_value_is_not_excused_by_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state's weights are all but gone, so that its bias alone is left, which the source holds elsewhere, and is paired with.

    The reference, fed the wrong product, computes the same from it; what stands right before the values in the candidate agrees.
    """
    pairs = [Pair(n, n, "name") for n in ("a", "h", "b", "a0", "a1")]
    pairs += [Pair("d0", "b0", "value"), Pair("d1", "b1", "value")]
    pairs += [Pair(n, n, "structure") for n in ("s", "r", "m", "n")]
    monkeypatch.setattr(VerificationRun, "_aligned", lambda _: pairs)
    source, wrong = gates(1.0), onnx_to_coreml(gates(2.0**-15), "mlprogram", precision="fp16")
    x = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    found = verify(source, wrong, {"x": x})
    assert [row.agrees for row in found.rows if row.candidate in ("s", "m", "y")] == [False] * 3


def test_what_follows_a_settled_output_is_settled_whatever_stands_first() -> None:
    """Tangents near their poles, an output that is cast from them, and a sum of that: each follows from what arrives."""
    text = """g (float[40,1] x, float[1,8] k) => (float[40] z, float[40,8] y) {
        t = Tan(x)\n m = MatMul(t, k)\n y = Relu(m)\n z = ReduceSum<keepdims=0>(y, axes)\n}"""
    source = graph_model(text, axes=np.array([1], np.int64))
    rng = np.random.default_rng(3)
    fed = {"x": rng.uniform(1.4, 1.74, (40, 1)).astype(np.float32), "k": rng.standard_normal((1, 8)).astype(np.float32)}
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), fed)
    assert found, found.summary()
    assert sum(row.carried is not None for row in found.outputs) == 2


@pytest.mark.parametrize("off", [0.0, 1e-3])
def test_a_layer_that_gives_out_its_weight_is_a_constant(off: float) -> None:
    """A NeuralNetwork holds what a converter has computed in a layer, whose last bits are not those of the engine."""
    held = np.linspace(-3, 3, 64, dtype=np.float32)
    nodes = [helper.make_node("Sigmoid", ["c"], ["s"]), helper.make_node("Max", ["s", "x"], ["y"])]
    source = net(nodes, {"c": held})
    made = onnx_to_coreml(source, "neuralnetwork")
    (constant,) = [layer for layer in made.spec.neuralNetwork.layers if layer.WhichOneof("layer") == "loadConstantND"]
    numbers = constant.loadConstantND.data
    numbers.floatValue[:] = np.nextafter(np.array(numbers.floatValue, np.float32), np.float32(1)) + np.float32(off)
    found = verify(source, made, {"x": np.full((4, 64), 0.1, np.float32)})
    assert found.agrees == (off == 0)


def _routed() -> object:
    """Numbers sorted by the group of each, every group with weights of its own, and put back: a mixture of experts."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Routed(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(3, 4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
            group = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
            sizes = torch.nn.functional.one_hot(group, 3).sum(0).tolist()
            _, order = group.sort(0)
            parts = [p @ w for p, w in zip(x[order].split(sizes), self.weight, strict=True)]
            return torch.zeros_like(x).index_add(0, order, torch.cat(parts) * x[order, 2:3])

    return Routed().eval()


@pytest.mark.thorough
def test_lengths_that_the_data_decides_are_values_of_a_traced_program() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from coreproof.runtime.torch import TorchPart, TorchSession

    x = torch.randn(40, 4)
    source = load((_routed(), (x,)))
    assert isinstance(source, TorchModel)
    session = TorchSession(source)
    nodes = list(source.exported().graph.nodes)
    counted = [n.name for n in nodes if n.op == "call_function" and isinstance(n.meta.get("val"), torch.SymInt)]
    found = session.run({"x": x.numpy()}, counted)
    group = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    sizes = [int((group == g).sum()) for g in range(3)]
    assert [int(np.asarray(found[name])) for name in counted[:3]] == sizes
    # a part of it takes them back as the numbers that its operators ask for, and each of several results by its own name
    (order,) = (n for n in nodes if n.target is torch.ops.aten.sort.default)
    (indices,) = (n.name for n in nodes if order in n.args and n.args[1] == 1)
    whole = session.run({"x": x.numpy()}, [order.name, indices])
    (last,) = source.example_outputs
    with TorchPart(session, [*counted, order.name, indices], [last]) as part:
        given = {name: np.asarray({**found, **whole}[name]) for name in part.inputs}
        made = part.run({**given, "x": x.numpy()})
    np.testing.assert_allclose(np.asarray(made[last]), np.asarray(whole[last]), rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_a_mixture_whose_sort_has_ties_agrees() -> None:
    """PyTorch sorts equal numbers in any order: what is gathered by it follows, and comes back to the same places."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from coreproof.precision.converted import convert

    source = load((_routed(), (torch.randn(40, 4),)))
    found = verify(source, convert(source, "mlprogram", precision="fp32"))
    assert found, found.summary()


def test_what_is_made_from_a_copy_that_the_candidate_makes_last_follows_too() -> None:
    """The reference reads the output that it gives out; the candidate casts it at its end, where it is accepted last."""
    x = np.linspace(-3.4, 3.3, 1000, dtype=np.float32).reshape(1000, 1)
    x[500] = 1.9999  # 2 in float16
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[1000,1] x) => (float[1000,1] half, float[1000,1] y) {
        f = Floor(x)
        a = Abs(f)
        c = Neg(a)
        s = Sigmoid(c)
        half = Cast<to=1>(s)
        m = MatMul(half, w)
        p = Mul(m, one)
        y = Add(b, p)
    }"""
    weights = {"w": np.float32([[-0.13458073]]), "b": np.float32([-0.8761587]), "one": np.float32(-1.1)}
    source = onnx_model(text, **weights)
    made = onnx_to_coreml(source, "mlprogram", precision="fp16")
    found = verify(source, made, {"x": x})
    assert found, found.summary()
    assert any(row.carried for row in found.rows)
    wrong = onnx_model(text, **{**weights, "b": np.float32([-0.95])})
    assert not verify(wrong, made, {"x": x})


BEHIND_A_STEP = """<ir_version: 8, opset_import: ["": 17]> net (float[64,64] x) => (float[64,64] y) {
    f = Floor(x)
    c = Cos(f)
    h = MatMul(c, w)
    r = Relu(h)
    m = MatMul(r, v)
    y = Add(m, b)
}"""


@pytest.mark.parametrize("every", [300, 4000])
@pytest.mark.parametrize(
    ("weight", "factor", "first"), [("w", 1.0, ""), ("w", 1.02, "h"), ("v", 0.95, "m"), ("b", 1.1, "y_fp16")]
)
def test_a_fault_does_not_hide_behind_a_step_that_rounding_crosses(
    every: int, weight: str, factor: float, first: str
) -> None:
    """Few numbers cross an edge, and move all that follows by a third of its scale: the bound of which hid a fault of 5%."""
    drawn = np.random.default_rng(0)
    x = drawn.standard_normal((64, 64)).astype(np.float32) * 2
    x.ravel()[::every] = 1.9999  # 2 in float16
    w, v = (drawn.standard_normal((64, 64)).astype(np.float32) / 8 for _ in range(2))
    weights = {"w": w, "v": v, "b": drawn.standard_normal(64).astype(np.float32)}
    made = onnx_to_coreml(onnx_model(BEHIND_A_STEP, **weights), "mlprogram", precision="fp16")
    wrong = onnx_model(BEHIND_A_STEP, **{**weights, weight: weights[weight] * np.float32(factor)})
    found = verify(wrong, made, {"x": x})
    assert found.agrees == (not first), found.summary()
    assert (found.first_divergence.candidate if found.first_divergence else "") == first


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.005, False)])
def test_what_is_made_from_a_constant_that_is_stored_in_float16_follows_from_what_is_stored(
    factor: float, agrees: bool
) -> None:
    """The tangent near its pole of a constant: the converter folds up to the GELU, and the program computes what is left."""
    c = np.linspace(-2, 2, 62, dtype=np.float32)
    c[7] = 1.5365  # its GELU stands 0.13 before the pole
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[62] x) => (float[62] y, float[62] z) {
        d = Div(c, root)
        e = Erf(d)
        p = Add(e, one)
        m = Mul(c, p)
        g = Mul(m, half)
        t = Tan(g)
        y = Mul(t, k)
        z = Add(x, g)
    }"""
    numbers = {"root": np.sqrt(np.float32(2)), "one": np.float32(1), "half": np.float32(0.5)}
    source = onnx_model(text, c=c, k=np.float32(1), **numbers)
    made = onnx_to_coreml(source, "mlprogram", precision="fp16")
    assert any(node.operator == "tan" for node in made.graph.nodes)
    found = verify(onnx_model(text, c=c, k=np.float32(factor), **numbers), made)
    assert found.agrees == agrees, found.summary()
