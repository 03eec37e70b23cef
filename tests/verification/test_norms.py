"""Normalisations of what varies little around a large mean: rounding there is no fault, a fault there is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.arriving import carried_error
from coreproof.verification.contrast import contrast_for, normalised_together
from coreproof.verification.error_state import measure
from coreproof.verification.verify import verify
from tests.build import onnx_proto

CHANNELS = 8
NORMS: dict[str, tuple[str, tuple[int, ...], dict[str, object]]] = {
    "instance": ("InstanceNormalization", (CHANNELS,), {}),
    "layer": ("LayerNormalization", (12,), {"axis": -1}),
    "layer over pictures": ("LayerNormalization", (CHANNELS, 12, 12), {"axis": 1}),
    "group": ("GroupNormalization", (CHANNELS,), {"num_groups": 4}),
}


def network(kind: str, gamma: float = 1.0, epsilon: float = 1e-5) -> OnnxModel:
    """A convolution whose biases are large beside what it makes of the picture, and a normalisation of that."""
    rng = np.random.default_rng(3)
    operator, shape, attributes = NORMS[kind]
    scale = rng.normal(1, 0.3, shape).astype(np.float32)
    scale[..., 2] *= gamma
    weights = {
        "w": rng.normal(0, 0.1, (CHANNELS, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 1.5, CHANNELS).astype(np.float32),
        "scale": scale,
        "shift": rng.normal(0, 0.3, shape).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["c", "scale", "shift"], ["n"], epsilon=epsilon, **attributes),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    made = onnx_proto(nodes, {"x": [1, 3, 12, 12]}, {"y": None}, weights, opset=21)
    return OnnxModel(ir.from_proto(onnx.shape_inference.infer_shapes(made)), name="g")


def stored(source: OnnxModel, form: str, folder: Path) -> Model:
    made = onnx_to_coreml(source, "neuralnetwork" if form == "neuralnetwork" else "mlprogram", **PRECISIONS[form])
    path = folder / f"{form}.{'mlmodel' if form == 'neuralnetwork' else 'mlpackage'}"
    made.save(path)
    return load(path)


PRECISIONS: dict[str, dict[str, object]] = {
    "float16": {"precision": "fp16"},
    "float32": {"precision": "fp32"},
    "neuralnetwork": {},
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("kind", NORMS)
def test_what_a_norm_makes_of_rounding_is_no_fault_whichever_side_rounds(kind: str, tmp_path: Path) -> None:
    source = network(kind)
    models: dict[str, Model] = {form: stored(source, form, tmp_path) for form in PRECISIONS}
    models["onnx"] = source
    for reference in models:
        for candidate in models:
            if reference == candidate:
                continue
            found = verify(models[reference], models[candidate])
            assert found.agrees, f"{candidate} against {reference}: {found.summary()}"


@pytest.mark.sweep(3)
@pytest.mark.parametrize("fault", [{"gamma": 1.1}, {"epsilon": 3e-2}], ids=["gamma", "epsilon"])
@pytest.mark.parametrize("kind", NORMS)
def test_a_fault_in_a_norm_is_found(kind: str, fault: dict[str, float], tmp_path: Path) -> None:
    """One channel (or column) of many is a tenth too large, or nearly flat ones are divided by too much."""
    source, faulty = network(kind), network(kind, **fault)
    narrow = stored(source, "float16", tmp_path / "right")
    for reference, candidate in ((source, "float16"), (narrow, "neuralnetwork")):
        found = verify(reference, stored(faulty, candidate, tmp_path))
        assert not found.agrees
        assert found.first_divergence is not None
        assert found.first_divergence.candidate != "c"


@pytest.mark.parametrize("quiet", [1.0, 0.1, 0.01])
def test_errors_are_predicted_from_the_deviation_of_each_row(quiet: float) -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(0, 1, (1, 16, 1)) + quiet * rng.normal(size=(1, 16, 400))
    wrong = exact * (1 + 2.0**-11 * rng.uniform(-1, 1, exact.shape))

    def normalised(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    node = Node("n", "InstanceNormalization", ("x",), ("y",), attributes={"epsilon": 1e-5})
    contrast = contrast_for(Graph("g", (node,), ("x",), ("y",)), "x", exact)
    read = measure(exact)._replace(error=float(np.sqrt(np.mean((wrong - exact) ** 2))), contrast=contrast)
    found = float(np.sqrt(np.mean((normalised(wrong) - normalised(exact)) ** 2)))
    predicted = carried_error(node, [read], measure(normalised(exact)))
    assert 0.7 * predicted < found < 1.4 * predicted


def test_a_row_of_zeros_is_no_contrast() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    rows[1] = 0
    node = Node("n", "LayerNormalization", ("x",), ("y",), attributes={"axis": -1})
    found = contrast_for(Graph("g", (node,), ("x",), ("y",)), "x", rows)
    assert found is not None
    assert found.typical < 1.1
    assert found.uneven < 1.5


@pytest.mark.parametrize(
    ("operator", "attributes", "length"),
    [
        ("InstanceNormalization", {}, 20),
        ("instance_norm", {}, 20),
        ("batchnorm", {"computeMeanVar": True, "instanceNormalization": True}, 20),
        ("batchnorm", {}, None),
        ("mvn", {"acrossChannels": True}, 120),
        ("mvn", {}, 20),
        ("layer_norm", {"axes": (2, 3)}, 20),
        ("layer_norm", {"axes": (1,)}, None),
        ("layerNormalization", {"normalizedShape": (5,)}, 5),
        ("LayerNormalization", {"axis": 1}, 120),
        ("GroupNormalization", {"num_groups": 3}, 40),
        ("l2normalize", {}, None),
    ],
)
def test_what_is_normalised_together(operator: str, attributes: dict[str, object], length: int | None) -> None:
    node = Node("n", operator, ("x",), ("y",), attributes=attributes)
    assert normalised_together(node, (2, 6, 4, 5)) == length


def test_the_mean_that_is_taken_away_is_rounded_in_float32_as_well(tmp_path: Path) -> None:
    """What remains is a thirtieth of it: two honest engines are apart by thirty times their last bit."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Conv1d(3, 8, 3, padding=1), torch.nn.InstanceNorm1d(8, affine=True)).eval()
    with torch.no_grad():
        module[0].bias.copy_(3 * torch.randn(8))
    source = load(cp.Source(module, (torch.randn(1, 3, 64),)))
    cp.convert(source, "neuralnetwork", check=False).save(tmp_path / "net.mlmodel")
    assert verify(source, load(tmp_path / "net.mlmodel")).agrees
