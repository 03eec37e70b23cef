"""bilinear-grid: a picture enlarged or reduced on another grid than the source's: corners aligned or not, half a pixel off."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.source.source_grid import bilinear_kernel, unsaid_grids
from coreproof.editing.edit import Edit
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Node

_CAUSE = (
    "exporters and formats mean different grids by the same word: align_corners, half a pixel, or the plain product "
    "(onnx-coreml#463, #556); Core ML's upsample knew one grid only before specification version 5"
)
_OPERATORS = (
    "upsample", "resizeBilinear", "upsample_bilinear", "resize_bilinear", "resize", "resize_nearest_neighbor", "Resize",
)  # fmt: skip
_SAMPLING = ("UNALIGN_CORNERS", "ALIGN_CORNERS", "STRICT_ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")
_TRANSFORMS = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
_ROUNDINGS = ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil")
_MEANT = (
    "; the source's file does not say its grid: it is read on the half-pixel centres that PyTorch meant, where ONNX Runtime "
    "and `coreproof verify` take index / scale"
)
_METHODS = ("STRICT_ALIGN_ENDPOINTS_MODE", "ALIGN_ENDPOINTS_MODE", "UPSAMPLE_MODE", "ROI_ALIGN_MODE")


def applies(case: Case) -> bool:
    return bool(case.evidence.faults)


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after, for interpolate(scale_factor=2, mode="bilinear", align_corners=False) in a version 1 network::

        upsample BILINEAR                                        samples 0, 1/2, 1, 3/2, ...
        padding (replicate 1) -> deconvolution 4x4, stride 2     samples -1/4, 1/4, 3/4, 5/4, ...

    Nothing else catches it: it runs, every shape is right, and the values are those of a picture that is slightly moved.
    """
    stretches = ((row, node) for row in case.evidence.faults for node in case.evidence.stretch(row)[0])
    for row, node in {node.name: (row, node) for row, node in stretches if node.operator in _OPERATORS}.values():
        yield Hypothesis(
            layer=node.name,
            evidence=f"{node.operator} {node.name!r} samples on another grid than the source: {_grid(node)}",
            cause=f"{_CAUSE}{_MEANT if case.source is not None and unsaid_grids(case.source) else ''}",
            repairs=tuple(_other_grids(case, node)),
            weight=70,
            about=row,
        )


def _grid(node: Node) -> str:
    told = [
        f"{key.split('.')[-1]} {value}"
        for key, value in node.attributes.items()
        if any(word in key for word in ("ode", "align", "half", "sampling"))
    ]
    return ", ".join(told) or "that it has by default"


def _other_grids(case: Case, node: Node) -> Iterator[Repair]:
    """Every other grid that the layer, or one that can stand in its place, knows; the least change first."""
    operator = node.operator
    if operator == "Resize":
        yield from _onnx(node)
    elif operator == "upsample_bilinear":
        for align, half in ((False, True), (True, False), (False, False)):
            words = f"align_corners = {align}, half_pixel_centers = {half}"
            yield _set(node, words, align_corners=align, half_pixel_centers=half)
            # before iOS 16 the operation has no half_pixel_centers
            yield _set(node, f"align_corners = {align}", align_corners=align)
    elif operator in ("resize_bilinear", "resize", "resize_nearest_neighbor"):
        for mode in _SAMPLING:
            if node.attributes.get("sampling_mode", "DEFAULT") != mode:
                yield _set(node, f"sampling_mode = {mode}", sampling_mode=mode)
    elif operator == "upsample" and node.attributes.get("mode") == "BILINEAR":
        yield from _upsample(case, node)
    elif operator == "resizeBilinear":
        for method in _METHODS:
            if node.attributes.get("mode.samplingMethod") != method:
                yield _set(node, f"sample by {method}", **{"mode.samplingMethod": method})
        yield from _half_pixels(case, node)


def _set(node: Node, words: str, **values: object) -> Repair:
    edits = tuple(Edit("set", {"layer": node.name, "attribute": k, "value": v}) for k, v in values.items())
    return Repair(f"give {node.name!r} {words}", edits)


def _onnx(node: Node) -> Iterator[Repair]:
    nearest = node.attributes.get("mode", "nearest") == "nearest"
    for transform, rounding in product(_TRANSFORMS, _ROUNDINGS if nearest else [""]):
        rounded = {"nearest_mode": rounding} if nearest else {}
        words = f"the grid {transform}{rounding and f', {rounding}'}"
        yield _set(node, words, coordinate_transformation_mode=transform, **rounded)


# NeuralNetwork


def _upsample(case: Case, node: Node) -> Iterator[Repair]:
    assert isinstance(case.model, CoreMLModel)
    version = case.model.spec.specificationVersion
    made, now = case.evidence.shapes.get(node.outputs[0]), node.attributes.get("linearUpsampleMode", "DEFAULT")
    modes = [m for m in ("ALIGN_CORNERS_FALSE", "ALIGN_CORNERS_TRUE", "DEFAULT") if m != now]
    by_mode = [_set(node, f"linearUpsampleMode = {mode}", linearUpsampleMode=mode) for mode in modes]
    if version >= 5:
        yield from by_mode
    yield from _half_pixels(case, node)
    for method in _METHODS if made is not None and len(made) >= 3 else ():
        assert made is not None
        step = Edit("replace", {
            "layer": node.name, "operator": "resizeBilinear", "targetSize": list(made[-2:]), "mode.samplingMethod": method,
        })  # fmt: skip
        words = f"let resizeBilinear stand in for {node.name!r}, sampling by {method}"
        yield Repair(words, (*_respecified(version, 3), step))
    for repair in by_mode if version < 5 else ():
        yield Repair(f"declare specification version 5 and {repair.words}", (*_respecified(version, 5), *repair.edits))


def _respecified(version: int, needed: int) -> tuple[Edit, ...]:
    return (Edit("respecify", {"version": needed}),) if version < needed else ()


def _half_pixels(case: Case, node: Node) -> Iterator[Repair]:
    """The half-pixel grid in layers that every version knows, where the layer enlarges by whole factors."""
    shape, made = case.evidence.shapes.get(node.inputs[0]), case.evidence.shapes.get(node.outputs[0])
    if shape is None or made is None or len(shape) < 3:
        return
    (rows, columns), (height, width) = made[-2:], shape[-2:]
    if rows % height == columns % width == 0 and max(rows // height, columns // width) > 1:
        yield _deconvolution(node, shape[-3], (rows // height, columns // width))


def _deconvolution(node: Node, channels: int, factors: tuple[int, int]) -> Repair:
    kernel, cuts = bilinear_kernel(channels, factors)
    edge = {"startEdgeSize": 1, "endEdgeSize": 1}
    cut = [{"startEdgeSize": c, "endEdgeSize": c} for c in cuts]
    padded = f"{node.outputs[0]}_edge_pad"
    repeated = Edit("insert", {
        "operator": "padding", "name": padded, "after": node.inputs[0], "before": [node.name], "replication": {},
        "paddingAmounts": {"borderAmounts": [edge, edge]},
    })  # fmt: skip
    spread = Edit("replace", {
        "layer": node.name, "operator": "convolution", "inputs": [padded], "outputChannels": channels,
        "kernelChannels": channels, "nGroups": channels, "kernelSize": list(kernel.shape[2:]), "stride": list(factors),
        "dilationFactor": [1, 1], "isDeconvolution": True, "weights": kernel,
        "valid": {"paddingAmounts": {"borderAmounts": cut}},
    })  # fmt: skip
    words = f"repeat the border, and let a deconvolution with the bilinear kernel stand in for {node.name!r}"
    return Repair(words, (repeated, spread))
