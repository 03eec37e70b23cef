"""RNN, GRU and LSTM in every form of the standard, against ONNX Runtime; with the batch in front, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.conversion.onnx_to_coreml.ops import control_flow
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import onnx_model

STEPS, BATCH, SIZE, HIDDEN = 5, 3, 4, 2
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
PARAMETERS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def _model(
    kind: str, present: set[str], fed: set[str], attributes: dict[str, Any]
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model of one node; what is ``present`` and not ``fed`` is a constant."""
    random = np.random.default_rng(len(kind))
    d = 2 if attributes.get("direction") == "bidirectional" else 1
    shapes: dict[str, tuple[int, ...]] = {
        "X": (STEPS, BATCH, SIZE),
        "W": (d, GATES[kind] * HIDDEN, SIZE),
        "R": (d, GATES[kind] * HIDDEN, HIDDEN),
        "B": (d, 2 * GATES[kind] * HIDDEN),
        "initial_h": (d, BATCH, HIDDEN),
        "initial_c": (d, BATCH, HIDDEN),
        "P": (d, 3 * HIDDEN),
    }
    values: dict[str, Any] = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    values["sequence_lens"] = np.array([STEPS, 2, 3], np.int32)
    present = {"X", "W", "R"} | present
    names = [n if n in present else "" for n in PARAMETERS[: 8 if kind == "LSTM" else 6]]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = onnx.helper.make_node(kind, names, outputs, hidden_size=HIDDEN, **attributes)
    types = {n: onnx.TensorProto.INT32 if n == "sequence_lens" else onnx.TensorProto.FLOAT for n in PARAMETERS}
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info(n, types[n], values[n].shape) for n in sorted(fed | {"X"})],
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        [onnx.numpy_helper.from_array(values[n], n) for n in sorted(present - fed - {"X"})],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    return model, {n: values[n] for n in sorted(fed | {"X"})}


def _check(
    kind: str,
    present: set[str],
    fed: set[str] | None = None,
    *,
    precision: str = "fp32",
    target: str = "iOS17",
    **attributes: Any,
) -> set[str]:
    """Holds the conversion against ONNX Runtime, and says which operations of MIL it has."""
    model, feeds = _model(kind, present, fed or set(), attributes)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    made = onnx_to_coreml(OnnxModel(ir.from_proto(model), name="g"), precision=precision, target=target)  # type: ignore[arg-type]
    tolerance = 1e-5 if precision == "fp32" else 1e-2
    with session(made, "onnxruntime") as running:
        results = running.run(feeds)
    for (name, got), want in zip(results.items(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=f"{kind} {name}")
    function = next(iter(made.spec.mlProgram.functions.values()))
    return {operation.type for operation in next(iter(function.block_specializations.values())).operations}


EACH = pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])


@pytest.mark.sweep(2, each="kind")
@EACH
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("present", [set(), {"B", "initial_h"}, {"B", "initial_h", "initial_c", "P"}])
def test_core_mls_own_operation_serves_where_it_means_the_same(kind: str, direction: str, present: set[str]) -> None:
    held = present if kind == "LSTM" else present - {"initial_c", "P"}
    assert kind.lower() in _check(kind, held, direction=direction)


@pytest.mark.sweep(2)
@EACH
@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_in_float16(kind: str, target: str) -> None:
    assert kind.lower() in _check(kind, {"B"}, precision="fp16", target=target, direction="bidirectional")


@pytest.mark.sweep(2, each="kind")
@EACH
@pytest.mark.parametrize("written_out", [512, 1])
@pytest.mark.parametrize("fed", [set(), {"sequence_lens"}])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_sequences_of_their_own_lengths(
    kind: str, direction: str, fed: set[str], written_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_flow, "_WRITTEN_OUT", written_out)
    made = _check(kind, {"B", "sequence_lens", "initial_h"}, fed, direction=direction)
    assert ("while_loop" in made) == (written_out == 1)


@pytest.mark.thorough
@EACH
def test_weights_that_are_fed(kind: str) -> None:
    assert kind.lower() not in _check(kind, {"B", "initial_h"}, {"W", "R", "B", "initial_h"}, direction="bidirectional")


@EACH
def test_a_limit_on_what_enters_the_gates(kind: str) -> None:
    _check(kind, {"B"}, clip=0.3)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
def test_a_gru_that_resets_after_the_product(target: str) -> None:
    made = _check("GRU", {"B", "initial_h"}, target=target, linear_before_reset=1, direction="bidirectional")
    assert ("gru" in made) == (target == "iOS18")


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("RNN", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("LSTM", {}), ("RNN", {"clip": 0.3})],
)
def test_a_neural_network_holds_both_directions(kind: str, attributes: dict[str, Any]) -> None:
    model, feeds = _model(kind, {"B"}, set(), {"direction": "bidirectional", **attributes})
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    made = onnx_to_coreml(OnnxModel(ir.from_proto(model), name="g"), "neuralnetwork")
    with session(made, "onnxruntime") as running:
        for got, want in zip(running.run(feeds).values(), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_gru_that_resets_after_the_product_over_any_number_of_steps(to: Any) -> None:
    model, _ = _model("GRU", {"B"}, set(), {"direction": "bidirectional", "linear_before_reset": 1})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "steps"
    judge = onnxruntime.InferenceSession(model.SerializeToString())
    precision: Any = "fp32" if to == "mlprogram" else None
    source = OnnxModel(ir.from_proto(model), name="g")
    made = onnx_to_coreml(source, to, precision=precision, shapes={"X": [(1, 9), BATCH, SIZE]})
    random = np.random.default_rng(8)
    with session(made, "onnxruntime") as running:
        for steps in (1, 4, 9):
            feeds = {"X": random.normal(size=(steps, BATCH, SIZE)).astype(np.float32)}
            for got, want in zip(running.run(feeds).values(), judge.run(None, feeds), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_an_lstm_whose_gates_are_coupled() -> None:
    _check("LSTM", {"B", "P"}, input_forget=1)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        ("Relu", {}),
        ("Affine", {"activation_alpha": [0.5], "activation_beta": [0.1]}),
        ("LeakyRelu", {"activation_alpha": [0.2]}),
        ("ThresholdedRelu", {"activation_alpha": [0.3]}),
        ("ScaledTanh", {"activation_alpha": [0.7], "activation_beta": [1.5]}),
        ("HardSigmoid", {"activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("Elu", {"activation_alpha": [0.6]}),
        ("Softsign", {}),
        ("Softplus", {}),
    ],
)
def test_every_activation(activation: str, parameters: dict[str, Any]) -> None:
    _check("RNN", {"B"}, activations=[activation], **parameters)
    _check("GRU", {"B"}, activations=["Sigmoid", activation], **parameters)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_batch_in_front(bidirectional: bool) -> None:
    torch.manual_seed(0)
    module = torch.nn.LSTM(SIZE, HIDDEN, batch_first=True, bidirectional=bidirectional)
    x = torch.randn(BATCH, STEPS, SIZE)
    with torch.no_grad():
        y, (h, c) = module(x)
    d = 2 if bidirectional else 1
    ends = ["", "_reverse"][:d]

    def gathered(name: str) -> np.ndarray:
        # PyTorch's gates stand as input, forget, cell, output
        rows = [np.split(getattr(module, f"{name}_l0{end}").detach().numpy(), 4) for end in ends]
        return np.stack([np.concatenate([r[0], r[3], r[1], r[2]]) for r in rows])

    constants = {"W": gathered("weight_ih"), "R": gathered("weight_hh")}
    constants["B"] = np.concatenate([gathered("bias_ih"), gathered("bias_hh")], axis=1)
    direction = "bidirectional" if bidirectional else "forward"
    node = onnx.helper.make_node(
        "LSTM", ["X", "W", "R", "B"], ["Y", "H", "C"], hidden_size=HIDDEN, layout=1, direction=direction
    )
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, (BATCH, STEPS, SIZE))],
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "YHC"],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    converted = onnx_to_coreml(OnnxModel(ir.from_proto(model), name="g"), precision="fp32")
    with session(converted, "onnxruntime") as running:
        results = running.run({"X": x.numpy()})
    wanted = [y.reshape(BATCH, STEPS, d, HIDDEN), h.transpose(0, 1), c.transpose(0, 1)]
    for got, want in zip(results.values(), wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.sweep(1, each="operator")
@pytest.mark.parametrize(("operator", "gates"), [("GRU", 3), ("LSTM", 4), ("RNN", 1)])
@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize("size", [(5, 2), (8, 4), (1, 1)])
def test_steps_and_batch_may_both_be_free(operator: str, gates: int, target: str, size: tuple[int, int]) -> None:
    """PyTorch's GRU resets behind the product, for which Core ML has an operation from iOS 18 on: below it is a loop."""
    rng = np.random.default_rng(0)
    weights = {"w": (1, 4 * gates, 3), "r": (1, 4 * gates, 4), "b": (1, 8 * gates)}
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
    how = "linear_before_reset=1, " if operator == "GRU" else ""
    text = f"""<ir_version: 8, opset_import: ["": 17]> net (float[s,n,3] x) => (float[?,?,?,?] y, float[?,?,?] h) {{
        y, h = {operator}<{how}hidden_size=4>(x, w, r, b) }}"""
    model = onnx_model(text, **drawn)
    x = rng.normal(size=(*size, 3)).astype(np.float32)
    wanted = onnxruntime.InferenceSession(model.stored()).run(None, {"x": x})
    made = onnx_to_coreml(model, "mlprogram", target=target, precision="fp32", shapes={"x": [(1, 8), (1, 4), 3]})
    with session(made) as running:
        found = [*running.run({"x": x}).values()]
    for got, want in zip(found, wanted, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
