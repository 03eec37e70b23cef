"""Surgery on NeuralNetwork models: known repairs of real broken files, and every primitive on real and small networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import coreproof as cp
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.surgery.body import Body, open_body
from coreproof.surgery.verbs import description, layers

Apply = Callable[[Body, dict[str, Any]], None]


# the repairs that are known for real broken files


def bilinear_by_deconvolution(body: Body, op: dict[str, Any]) -> None:
    """Each pixel of the doubled picture as the source's half-pixel grid weighs it, in layers that the oldest systems have."""
    channels, layer = op["channels"], op["layer"]
    kernel = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]).astype(np.float32)
    (source,) = body.node(layer).inputs
    edges = {"paddingAmounts": {"borderAmounts": [{"startEdgeSize": 1, "endEdgeSize": 1}] * 2}}
    crop = {"cropAmounts": {"borderAmounts": [{"startEdgeSize": 3, "endEdgeSize": 3}] * 2}}
    before = body.graph.nodes[[n.name for n in body.graph.nodes].index(layer) - 1].name
    body.remove(layer)
    body.add("padding", "p", [source], ["padded"], {"replication": True, **edges}, before)
    settings = {
        "outputChannels": channels, "kernelChannels": channels, "nGroups": channels, "isDeconvolution": True,
        "kernelSize": [4, 4], "stride": [2, 2], "valid": True, "weights": np.stack([kernel[None]] * channels),
    }  # fmt: skip
    body.add("convolution", "d", ["padded"], ["doubled"], settings, "p")
    body.add("crop", layer, ["doubled"], [layer], crop, "d")


OPERATIONS: dict[str, Apply] = {
    "delete_layer": lambda body, op: body.remove(op["layer"]),
    "set_inputs": lambda body, op: body.set_inputs(op["layer"], op["inputs"]),
    "set_field": lambda body, op: body.set(op["layer"], op["field"], op["value"]),
    "set_classifier": lambda body, op: description.scores(body, op["value"]),
    "truncate_class_labels": lambda body, op: body.relabel((body.model.signature.labels or ())[: op["count"]]),
    "replace_with_flatten": lambda body, op: layers.replace(body, op["layer"], "flatten", mode="CHANNEL_FIRST"),
    "replace_bilinear2x_by_deconv": bilinear_by_deconvolution,
}


def output_of(model: Model, case: dict[str, Any], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the model gives for the case's input, flat, and what torch gave."""
    with np.load(folder / "data.npz") as data:
        feature = model.signature.inputs[0]
        if feature.image is not None:
            given: Any = Image.fromarray(data["image_u8_hwc_rgb"])
        else:
            given = data["x_nchw"].reshape(feature.shape)
        expected = data[case["data"]["expected_key"]].reshape(-1)
    with cp.session(model) as running:
        outputs = running.run({feature.name: given})
    found = outputs[model.signature.probabilities or model.signature.outputs[0].name]
    values = list(found.values()) if isinstance(found, dict) else found
    return np.asarray(values, np.float32).reshape(-1), expected


def test_the_known_repairs_give_what_torch_gave(shared_data: Path, tmp_path: Path) -> None:
    """Loaded, operated on, stored, loaded again, run."""
    repaired = 0
    for file in sorted(shared_data.glob("legacy/*/case.json")):
        case = json.loads(file.read_text())
        if case["repair"] is None:
            continue
        body = open_body(cp.load(file.parent / "broken.mlmodel"))
        for op in case["repair"]["ops"]:
            OPERATIONS[op["op"]](body, op)
        model = cp.load(body.close().save(tmp_path / f"{file.parent.name}.mlmodel"))
        found, expected = output_of(model, case, file.parent)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < case["expected"]["tolerance_rel_max"], f"{file.parent.name}: {error}"
        repaired += 1
    assert repaired == 11


def test_the_broken_files_do_not_give_it(shared_data: Path) -> None:
    """The measure of the test above tells broken from repaired."""
    for file in sorted(shared_data.glob("legacy/*/case.json")):
        case = json.loads(file.read_text())
        if case["repair"] is None:
            continue
        try:
            found, expected = output_of(cp.load(file.parent / "broken.mlmodel"), case, file.parent)
        except CoreproofError:
            continue
        right = case["expected"]["tolerance_rel_max"]
        same = found.shape == expected.shape and np.abs(found - expected).max() / np.abs(expected).max() < right
        assert not same, file.parent.name
