"""Weights compressed by a conversion: what is written, that the proof's figures are those of the files, and what a loss costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.convert import convert as translate
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.layer_weights import layer_weights
from coreproof.precision.exchanged import ExchangedWeights
from tests.build import graph_model, weights

SCHEMES = {
    "palettize:1": ("constexpr_lut_to_dense", 0.18),
    "palettize:3": ("constexpr_lut_to_dense", 0.30),
    "palettize:4": ("constexpr_lut_to_dense", 0.35),
    "palettize:4:group=8": ("constexpr_lut_to_dense", 0.5),
    "palettize:4:scale": ("constexpr_blockwise_shift_scale", 0.4),
    "palettize:8:uniform": ("constexpr_lut_to_dense", 0.8),
    "linear:8": ("constexpr_affine_dequantize", 0.6),
    "linear:8:tensor": ("constexpr_affine_dequantize", 0.55),
    "linear:8:asymmetric": ("constexpr_affine_dequantize", 0.6),
    "linear:4": ("constexpr_blockwise_shift_scale", 0.35),
    "linear:4:block=8": ("constexpr_blockwise_shift_scale", 0.45),
    "prune:0.5": ("constexpr_sparse_to_dense", 0.65),
    "prune:2of4": ("constexpr_sparse_to_dense", 0.65),
    "prune:0.5+palettize:4": ("constexpr_lut_to_sparse", 0.5),
    "prune:0.5+linear:8": ("constexpr_sparse_blockwise_shift_scale", 0.55),
    "palettize:4+linear:8": ("constexpr_lut_to_dense", 0.35),
}
X = np.random.default_rng(3).standard_normal((1, 8, 6, 6)).astype(np.float32)


def source() -> Any:
    text = """net (float[1, 8, 6, 6] x) => (float[1, 24] y) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w)  r = Relu (c)  p = GlobalAveragePool (r)  f = Flatten (p)
        y = Gemm <transB = 1> (f, g) }"""
    return graph_model(text, 17, w=weights(32, 8, 3, 3), g=weights(24, 32, seed=1))


@pytest.mark.sweep(6)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_is_written_read_and_proved(scheme: str, tmp_path: Path) -> None:
    operator, share = SCHEMES[scheme]
    made = cp.convert(source(), "mlprogram", compress=scheme, inputs={"x": X}, check=False)
    assert isinstance(made, CoreMLModel)
    assert operator in {node.operator for node in made.graph.nodes}
    report = made.compression
    assert report is not None
    assert report
    assert report.bytes < share * report.bytes_before
    assert report.bytes_before == 2 * (32 * 8 * 9 + 24 * 32)  # float16
    plain = cp.session(source()).run({"x": X})["y"]
    got = cp.session(made).run({"x": X})["y"]
    assert report.loss == pytest.approx(np.sqrt(np.mean((got - plain) ** 2) / np.mean(plain**2)), rel=1e-3)
    conv = next(weight for weight in report.weights if weight.operator == "conv")
    dense, own = layer_weights(made, conv.layer)["weight"].astype(np.float64), weights(32, 8, 3, 3)
    assert conv.error == pytest.approx(np.sqrt(np.mean((dense - own) ** 2) / np.mean(own**2)), rel=1e-2)
    if scheme.startswith("prune"):
        assert np.mean(dense == 0) == pytest.approx(0.5, abs=0.01)
    made.save(tmp_path / "m.mlpackage")
    stored = (tmp_path / "m.mlpackage" / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size
    # what is short stands in the program itself, and each blob has a record of 64 bytes
    assert stored < report.bytes + 2500
    assert json.loads(json.dumps(report.to_json()))["bytes"] == report.bytes


def test_weights_that_cannot_be_cut_into_the_blocks_asked_for_are_named() -> None:
    made = cp.convert(source(), "mlprogram", compress="linear:4:block=16", check=False)
    assert any("c:weight" in note and "no multiple" in note for note in made.notes)


@pytest.mark.parametrize("kept", ["conv", "Conv", "c", "c:weight"])
def test_what_is_to_be_kept_stays_as_it_is_by_any_of_its_names(kept: str) -> None:
    made = cp.convert(source(), "mlprogram", compress="palettize:4", keep_size=[kept], check=False)
    assert isinstance(made, CoreMLModel)
    assert made.compression is not None
    rows = {weight.operator: weight for weight in made.compression.weights}
    assert (rows["conv"].kept, rows["linear"].kept) == (True, False)
    assert rows["conv"].error == 0
    np.testing.assert_array_equal(layer_weights(made, "c")["weight"], weights(32, 8, 3, 3).astype(np.float16))


def test_for_a_given_loss_the_fewest_weights_stay_as_they_are() -> None:
    made = cp.convert(source(), "mlprogram", compress="palettize:2", at_most_loss=0.3, inputs={"x": X}, check=False)
    assert isinstance(made, CoreMLModel)
    report = made.compression
    assert report is not None
    assert 0 < len(report.left) < 2
    assert report.loss <= 0.3
    everything = cp.convert(source(), "mlprogram", compress="palettize:2", inputs={"x": X}, check=False)
    assert isinstance(everything, CoreMLModel)
    assert everything.compression is not None
    assert everything.compression.loss > 0.3
    # a loss that all of them keep within leaves none
    wide = cp.convert(source(), "mlprogram", compress="palettize:2", at_most_loss=2, inputs={"x": X}, check=False)
    assert isinstance(wide, CoreMLModel)
    assert wide.compression is not None
    assert wide.compression.left == ()


def test_a_trial_computes_what_the_compressed_model_will() -> None:
    plain, made = (translate(source(), "mlprogram", compress=s, target="iOS17") for s in (None, "palettize:2"))
    assert isinstance(plain, CoreMLModel)
    assert isinstance(made, CoreMLModel)
    own = {name: layer_weights(made, name)["weight"] for name in ("c", "y_fp16")}
    trial = ExchangedWeights(plain, {f"{name}:weight": lambda array=array: array for name, array in own.items()})
    try:
        for kept, partner in ((["c:weight", "y_fp16:weight"], plain), ([], made)):
            got, wanted = (cp.session(m).run({"x": X})["y"] for m in (trial.with_all_but(kept), partner))
            np.testing.assert_array_equal(got, wanted)
    finally:
        trial.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compress": "linear:4", "target": "iOS17"}, "needs iOS 18"),
        ({"compress": "palettize:4", "target": "iOS15"}, "needs iOS 16"),
        ({"compress": "palettize:4", "keep_size": ["nowhere"]}, "no weights of these names"),
        ({"compress": "palettize:4", "keep_size": ["conv", "linear"]}, "compresses nothing"),
        ({"compress": "palettize:4", "at_most_loss": 1e-12}, "no set of weights"),
        ({"compress": "palettize:4", "at_most_loss": -1.0}, "share of an output's scale"),
        ({"compress": "palettize:9"}, "is not understood"),
        ({"keep_size": ["conv"]}, "goes with compress"),
        ({"at_most_loss": 0.1}, "goes with compress"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_do(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(cp.CoreproofError, match=expected):
        cp.convert(source(), "mlprogram", **options, check=False)


def test_a_neuralnetwork_and_onnx_are_not_compressed() -> None:
    with pytest.raises(cp.CoreproofError, match="for an ML Program"):
        cp.convert(source(), "neuralnetwork", compress="linear:8")
    with pytest.raises(cp.CoreproofError, match="for an ML Program"):
        cp.convert(translate(source(), "mlprogram"), "onnx", compress="linear:8")
