"""Layers that are other than the source's: weights, biases, epsilons, axes, pads; with a twin and without."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.doctor.case import Case
from coreproof.doctor.diagnose import diagnose
from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.rules import rules
from coreproof.doctor.source.layer_differences import LayerDifference, kind_of_array
from coreproof.doctor.source.layer_faults import LayerFault, kind_of
from coreproof.doctor.source.single_changes import holdings
from coreproof.editing.edit import Edit, edit
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.onnx.model import OnnxModel
from tests.build import graph_model, onnx_net, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired, outputs, sample

FORMATS = ("onnx", "mlprogram", "neuralnetwork")


@pytest.fixture(scope="module")
def source() -> OnnxModel:
    """A classifier with most of what is got wrong in it."""
    variance = np.abs(weights(4, seed=4)) + 0.5
    return onnx_net(
        [
            ("Conv", "x w b", "c", {"pads": [1, 1, 1, 1]}),
            ("BatchNormalization", "c gamma beta mean variance", "n", {"epsilon": 1e-3}),
            ("LeakyRelu", "n", "r", {"alpha": 0.2}),
            ("Conv", "r w2 b2", "d", {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("Relu", "d", "e", {}),
            ("AveragePool", "e", "p", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
            ("ReduceMean", "p", "g", {"axes": [2, 3], "keepdims": 0}),
            ("Gemm", "g v q", "l", {"transB": 1}),
            ("Softmax", "l", "y", {"axis": 1}),
        ],
        {"x": [1, 3, 8, 8]},
        {"y": None},
        w=weights(4, 3, 3, 3),
        b=weights(4, seed=1),
        gamma=weights(4, seed=2) + 2,
        beta=weights(4, seed=3),
        mean=weights(4, seed=5),
        variance=variance,
        w2=weights(4, 4, 3, 3, seed=6),
        b2=weights(4, seed=7),
        v=weights(4, 4, seed=8),
        q=weights(4, seed=9),
    )


@pytest.fixture(scope="module")
def healthy(source: OnnxModel) -> dict[str, Model]:
    return {
        "onnx": source,
        "mlprogram": cp.convert(source, "mlprogram", precision="fp32"),
        "neuralnetwork": cp.convert(source, "neuralnetwork"),
    }


OPERATORS = {
    "conv": {"onnx": "Conv", "mlprogram": "conv", "neuralnetwork": "convolution"},
    "linear": {"onnx": "Gemm", "mlprogram": "linear", "neuralnetwork": "innerProduct"},
    "leaky": {"onnx": "LeakyRelu", "mlprogram": "leaky_relu", "neuralnetwork": "activation"},
    "pool": {"onnx": "AveragePool", "mlprogram": "avg_pool", "neuralnetwork": "pooling"},
    "softmax": {"onnx": "Softmax", "mlprogram": "softmax", "neuralnetwork": "softmaxND"},
}


def place(model: Model, kind: str, number: int = 0) -> Any:
    return [n for n in model.graph.nodes if n.operator == OPERATORS[kind][model.format]][number]


def changed(model: Model, layer: str, attribute: str, value: Any) -> Model:
    step = Edit("set", {"layer": layer, "attribute": attribute, "value": value})
    return edit(model, [step], check=False).model


def weight_of(model: Model, node: Any) -> tuple[str, np.ndarray]:
    """The largest weight of a layer, by its stored name."""
    held = Case(model).weights(node.name)
    return max(held.items(), key=lambda item: item[1].size)


def bias_key(model: Model, node: Any) -> str:
    return node.inputs[2] if model.format == "onnx" else "bias"


@pytest.mark.parametrize("style", FORMATS)
def test_the_healthy_models_stay_untouched(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    assert_healthy(healthy[style], source)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("style", FORMATS)
def test_output_channels_in_another_order(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    node = place(healthy[style], "conv")
    key, weight = weight_of(healthy[style], node)
    broken = changed(healthy[style], node.name, key, weight[::-1].copy())
    diagnosis = assert_repaired(broken, healthy[style], "weight", node.name, source)
    assert "output channels reversed" in diagnosis[0].evidence
    assert "values agree with the source" in diagnosis.after


@pytest.mark.sweep(1)
@pytest.mark.parametrize("style", FORMATS)
def test_a_square_weight_transposed(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    node = place(healthy[style], "linear")
    key, weight = weight_of(healthy[style], node)
    broken = changed(healthy[style], node.name, key, weight.T.copy())
    assert_repaired(broken, healthy[style], "weight", node.name, source)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("style", FORMATS)
def test_a_bias_dropped(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    node = place(healthy[style], "conv", 1)
    broken = changed(healthy[style], node.name, bias_key(healthy[style], node), None)
    diagnosis = assert_repaired(broken, healthy[style], "bias", node.name, source)
    assert "missing" in diagnosis[0].evidence


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("style", "kind", "attribute", "value", "rule"),
    [
        ("onnx", "softmax", "axis", 0, "axis"),
        ("mlprogram", "softmax", "axis", 0, "axis"),
        ("neuralnetwork", "softmax", "axis", 0, "axis"),
        ("onnx", "conv", "pads", [0, 0, 2, 2], "padding"),
        ("mlprogram", "conv", "pad", [0, 2, 0, 2], "padding"),
        ("onnx", "pool", "count_include_pad", 0, "padding"),
        ("mlprogram", "pool", "exclude_padding_from_average", True, "padding"),
        ("neuralnetwork", "pool", "avgPoolExcludePadding", True, "padding"),
        ("onnx", "leaky", "alpha", 0.01, "attribute"),
        ("mlprogram", "leaky", "alpha", 0.01, "attribute"),
        ("neuralnetwork", "leaky", "leakyReLU.alpha", 0.01, "attribute"),
    ],
)
def test_an_attribute(
    healthy: dict[str, Model], source: OnnxModel, style: str, kind: str, attribute: str, value: Any, rule: str
) -> None:
    node = place(healthy[style], kind)
    broken = changed(healthy[style], node.name, attribute, value)
    assert_repaired(broken, healthy[style], rule, node.name, source)


def test_an_epsilon(source: OnnxModel) -> None:
    broken = changed(source, "to_n", "epsilon", 0.5)
    diagnosis = assert_repaired(broken, source, "epsilon", "to_n", source)
    assert "epsilon is 0.5, and 0.001 in the source" in diagnosis[0].evidence


@pytest.mark.parametrize("style", ["mlprogram", "onnx"])
def test_an_axis_with_which_nothing_runs(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    node = place(healthy[style], "softmax")
    broken = changed(healthy[style], node.name, "axis", 3)
    assert not Case(broken).evidence.runs
    assert_repaired(broken, healthy[style], "axis", node.name, source)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("style", FORMATS)
def test_a_scale_moved_into_the_layer_before(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    """Either repair alone makes the answers worse: both are carried out."""
    first, second = place(healthy[style], "conv"), place(healthy[style], "conv", 1)
    (key, weight), (key2, weight2) = weight_of(healthy[style], first), weight_of(healthy[style], second)
    broken = changed(healthy[style], first.name, key, weight * 512)
    broken = changed(broken, second.name, key2, weight2 / 512)
    diagnosis = diagnose(broken, source)
    assert diagnosis.repaired is not None
    assert {f.rule for f in diagnosis if f.repaired} == {"weight"}
    fed = sample(source)
    np.testing.assert_allclose(outputs(diagnosis.repaired, fed)[0], outputs(source, fed)[0], rtol=1e-4, atol=1e-5)


# without a twin, from the source's own nodes


@pytest.fixture
def no_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a file of another converter, whose layers are cut otherwise."""
    monkeypatch.setattr("coreproof.doctor.source.reference_conversion.convert_reference", lambda source, model: None)


@pytest.mark.usefixtures("no_twin")
@pytest.mark.parametrize("style", ["mlprogram", "neuralnetwork"])
def test_a_folded_weight_is_worked_out(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    node = place(healthy[style], "conv")
    key, weight = weight_of(healthy[style], node)
    broken = changed(healthy[style], node.name, key, weight[[2, 0, 3, 1]].copy())
    diagnosis = assert_repaired(broken, healthy[style], "weight", node.name, source)
    assert "with 'to_n' folded in" in diagnosis[0].evidence


@pytest.mark.thorough
@pytest.mark.usefixtures("no_twin")
@pytest.mark.parametrize("style", FORMATS)
def test_a_turned_square_weight_is_worked_out(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    node = place(healthy[style], "linear")
    key, weight = weight_of(healthy[style], node)
    broken = changed(healthy[style], node.name, key, weight.T.copy())
    assert_repaired(broken, healthy[style], "weight", node.name, source)


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("no_twin")
@pytest.mark.parametrize("style", FORMATS)
def test_a_missing_bias_is_worked_out(healthy: dict[str, Model], source: OnnxModel, style: str) -> None:
    node = place(healthy[style], "conv", 1)
    broken = changed(healthy[style], node.name, bias_key(healthy[style], node), None)
    assert_repaired(broken, healthy[style], "bias", node.name, source)


@pytest.mark.thorough
@pytest.mark.usefixtures("no_twin")
def test_an_axis_is_worked_out_though_nothing_runs(healthy: dict[str, Model], source: OnnxModel) -> None:
    node = place(healthy["mlprogram"], "softmax")
    broken = changed(healthy["mlprogram"], node.name, "axis", 3)
    assert_repaired(broken, healthy["mlprogram"], "axis", node.name, source)


def test_what_folding_makes(source: OnnxModel) -> None:
    case = Case(source, source)
    nodes = [n for n in source.graph.nodes if n.name in ("to_c", "to_n")]
    held = {h.words: h.array for h in holdings(case, nodes)}
    stored = {k: v for name in ("to_c", "to_n") for k, v in case.weights(name).items()}
    factor = stored["gamma"] / np.sqrt(stored["variance"] + 1e-3)
    folded = "'to_c' with 'to_n' folded in"
    np.testing.assert_allclose(held[f"weight of {folded}"], stored["w"] * factor[:, None, None, None], rtol=1e-6)
    np.testing.assert_allclose(
        held[f"bias of {folded}"], (stored["b"] - stored["mean"]) * factor + stored["beta"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("kind", "subject", "rule"),
    [
        ("attribute", "epsilon", "epsilon"),
        ("attribute", "valid.paddingAmounts.borderAmounts", "padding"),
        ("attribute", "perm", "axis"),
        ("attribute", "mode", "attribute"),
        ("attribute", "bias", "bias"),
        ("weight", "weight", "weight"),
        ("operator", "operator", "layer"),
    ],
)
def test_faults_are_called_by_what_differs(kind: str, subject: str, rule: str) -> None:
    difference = LayerDifference(Node("a", "conv", (), ()), kind, subject, "", ())
    fault = LayerFault(*kind_of(difference), Hypothesis(layer="a", evidence="", cause=""))
    case = SimpleNamespace(evidence=SimpleNamespace(once=lambda find: [fault]))
    of_layers = [r for r in rules() if r.hypotheses.__module__.endswith("layer_faults")]
    assert [r.id for r in of_layers if list(r.hypotheses(case))] == [rule]  # type: ignore[arg-type]


def test_a_vector_is_called_by_its_role(source: OnnxModel) -> None:
    def kind(node: str, key: str) -> str:
        return kind_of_array(next(n for n in source.graph.nodes if n.name == node), key, np.ones(4, np.float32))

    assert [kind("to_n", key) for key in ("gamma", "beta", "mean", "variance")] == ["weight", "bias", "bias", "weight"]
    assert [kind("to_c", "b"), kind("to_l", "q")] == ["bias", "bias"]


@pytest.mark.parametrize("role", ["s", "z"])
def test_a_step_of_quantised_numbers_is_called_so(role: str) -> None:
    def build(**changed: Any) -> OnnxModel:
        stored: dict[str, Any] = {"s": np.float32(0.02), "z": np.uint8(128), "w": weights(4, 8), "t": np.float32(0.5)}
        return onnx_net(
            [
                ("QuantizeLinear", "x t z0", "q", {}),
                ("DequantizeLinear", "q t z0", "d", {}),
                ("MatMul", "d w", "m", {}),
                ("QuantizeLinear", "m s z", "r", {}),
                ("DequantizeLinear", "r s z", "y", {}),
            ],
            {"x": [1, 4]},
            {"y": None},
            z0=np.uint8(120),
            **(stored | changed),
        )

    wrong = {"s": np.float32(0.07)} if role == "s" else {"z": np.uint8(90)}
    diagnosis = diagnose(build(**wrong), build())
    assert {f.rule for f in diagnosis} == {"scale"}
    assert "scale or zero point" in diagnosis[0].cause


def test_a_scale_that_stands_for_two_of_the_source() -> None:
    """Attention scales queries and keys by a root each; a program may hold their product."""
    text = (
        "net (float[1, 4, 6, 8] q, float[1, 4, 6, 8] k) => (float[1, 4, 6, 6] y) <float s = {%s}> "
        "{ turned = Transpose <perm = [0, 1, 3, 2]> (k) %s y = Softmax <axis = -1> (scores) }"
    )
    source = graph_model(text % ("0.6", "a = Mul (q, s) b = Mul (turned, s) scores = MatMul (a, b)"))
    program = cp.convert(
        graph_model(text % ("0.36", "both = Mul (q, s) scores = MatMul (both, turned)")), "mlprogram", precision="fp32"
    )
    (scale,) = (node for node in program.graph.nodes if node.operator == "mul")
    diagnosis = assert_repaired(changed(program, scale.name, "y", 0.9), program, "attribute", scale.name, source)
    assert "0.36" in diagnosis[0].evidence
