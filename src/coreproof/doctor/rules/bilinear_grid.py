"""bilinear-grid: a picture enlarged or reduced on another grid than the source's: corners aligned or not, half a pixel off."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.source.source_grid import bilinear_kernel, unsaid_grids
from coreproof.doctor.trial import MUCH_BETTER, stretch_nodes
from coreproof.editing.edit import Edit
from coreproof.model.graph import Node
from coreproof.verification.row import Row

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

Trial = tuple[str, tuple[Edit, ...]]


def applies(case: Case) -> bool:
    return bool(case.evidence.faults)


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after, for interpolate(scale_factor=2, mode="bilinear", align_corners=False) in a version 1 network::

        upsample BILINEAR                                        samples 0, 1/2, 1, 3/2, ...
        padding (replicate 1) -> deconvolution 4x4, stride 2     samples -1/4, 1/4, 3/4, 5/4, ...

    Nothing else catches it: it runs, every shape is right, and the values are those of a picture that is slightly moved.
    """
    seen = set()
    for row, node in stretch_nodes(case, *_OPERATORS):
        if node.name in seen:
            continue
        seen.add(node.name)
        hypothesis = _hypothesis(case, row, node)
        if hypothesis is not None:
            yield hypothesis


def _hypothesis(case: Case, row: Row, node: Node) -> Hypothesis | None:
    now = case.evidence.error_with([], row)
    measured = [(case.evidence.error_with(edits, row), words, edits) for words, edits in _trials(case, node)]
    better = [m for m in measured if m[0] < min(now, 1.0) * MUCH_BETTER]
    if not better:
        return None
    # a repair in place goes before one that needs a newer version, unless it is much worse
    bar = 100 * min(error for error, _, _ in better) + 1e-4
    better.sort(key=lambda m: m[0] > bar)
    return Hypothesis(
        layer=node.name,
        evidence=(
            f"{node.operator} {node.name!r} samples on the grid {_grid(node)}: relative error {now:.2g} at {row.candidate!r}; "
            f"on another grid {better[0][0]:.2g}"
        ),
        cause=f"{_CAUSE}{_MEANT if case.source is not None and unsaid_grids(case.source) else ''}",
        repairs=tuple(Repair(words, edits) for _, words, edits in better),
        weight=70,
    )


def _grid(node: Node) -> str:
    told = [
        f"{key.split('.')[-1]} {value}"
        for key, value in node.attributes.items()
        if any(word in key for word in ("ode", "align", "half", "sampling"))
    ]
    return ", ".join(told) or "that it has by default"


def _trials(case: Case, node: Node) -> Iterator[Trial]:
    """Every other grid that the layer, or one that can stand in its place, knows; the least change first."""
    operator = node.operator
    if operator == "Resize":
        yield from _onnx(case, node)
    elif operator == "upsample_bilinear":
        for align, half in ((False, True), (True, False), (False, False)):
            yield _set(
                node,
                f"align_corners = {align}, half_pixel_centers = {half}",
                align_corners=align,
                half_pixel_centers=half,
            )
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


def _set(node: Node, words: str, **values: object) -> Trial:
    edits = tuple(Edit("set", {"layer": node.name, "attribute": k, "value": v}) for k, v in values.items())
    return f"give {node.name!r} {words}", edits


def _onnx(case: Case, node: Node) -> Iterator[Trial]:
    now = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if node.attributes.get("mode", "nearest") == "nearest":
        for transform in _TRANSFORMS:
            for rounding in _ROUNDINGS:
                yield _set(
                    node,
                    f"the grid {transform}, {rounding}",
                    coordinate_transformation_mode=transform,
                    nearest_mode=rounding,
                )
        return
    for transform in _TRANSFORMS:
        if transform != now:
            yield _set(node, f"the grid {transform}", coordinate_transformation_mode=transform)


# NeuralNetwork


def _upsample(case: Case, node: Node) -> Iterator[Trial]:
    version = int(getattr(case.model, "spec").specificationVersion)  # noqa: B009 - Core ML models have one
    shape = case.evidence.shapes.get(node.inputs[0])
    made = case.evidence.shapes.get(node.outputs[0])
    modes = [m for m in ("ALIGN_CORNERS_FALSE", "ALIGN_CORNERS_TRUE", "DEFAULT") if m != _mode(node)]
    if version >= 5:
        for mode in modes:
            yield _set(node, f"linearUpsampleMode = {mode}", linearUpsampleMode=mode)
    factors = [int(f) for f in node.attributes.get("scalingFactor", ())]
    if shape is not None and len(shape) >= 3 and len(factors) == 2 and max(factors) > 1:
        yield _deconvolution(node, int(shape[-3]), (factors[0], factors[1]))
    if made is not None and len(made) >= 3:
        target = [int(n) for n in made[-2:]]
        for method in _METHODS:
            edits = [
                Edit("replace", {
                    "layer": node.name, "operator": "resizeBilinear", "targetSize": target, "mode.samplingMethod": method,
                })
            ]  # fmt: skip
            if version < 3:
                edits.insert(0, Edit("respecify", {"version": 3}))
            yield f"let resizeBilinear stand in for {node.name!r}, sampling by {method}", tuple(edits)
    if version < 5:
        for mode in modes:
            _, edits_mode = _set(node, "", linearUpsampleMode=mode)
            yield (
                f"declare specification version 5 and give {node.name!r} linearUpsampleMode = {mode}",
                (Edit("respecify", {"version": 5}), *edits_mode),
            )


def _half_pixels(case: Case, node: Node) -> Iterator[Trial]:
    """A grid that resizeBilinear does not know, where it enlarges by whole factors."""
    shape, made = case.evidence.shapes.get(node.inputs[0]), case.evidence.shapes.get(node.outputs[0])
    if shape is None or made is None or len(shape) < 3:
        return
    factors = [m // n for m, n in zip(made[-2:], shape[-2:], strict=True)]
    if any(f * n != m for f, n, m in zip(factors, shape[-2:], made[-2:], strict=True)) or max(factors) < 2:
        return
    yield _deconvolution(node, int(shape[-3]), (factors[0], factors[1]))


def _mode(node: Node) -> str:
    return str(node.attributes.get("linearUpsampleMode", "DEFAULT"))


def _deconvolution(node: Node, channels: int, factors: tuple[int, int]) -> Trial:
    """Half-pixel bilinear enlargement by whole factors, in layers that every version knows."""
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
    return words, (repeated, spread)
