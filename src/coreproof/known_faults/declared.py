"""Patterns of what a model declares and how it stores its weights: states, shapes, widths, palettes, blocks."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.known_faults.record import Seen, Sighting
from coreproof.known_faults.sight import every, of, told, whole
from coreproof.model.features import Feature

_ROW = 32
"""What the Neural Engine aligns rows to, in numbers of float16."""
_ENTRIES = 16
"""What a palette of 4 bits holds at most."""
_ROWS, _SHORTEST = 5, 12
"""From so many rows on, of more than so many numbers, the thread's rows are read wrongly."""


def uneven_state(seen: Seen) -> Iterator[Sighting]:
    """A state of rank 4 whose last length is no multiple of 32."""
    for state in () if seen.within else seen.signature.states:
        last = whole(state.shape[-1]) if state.shape is not None and len(state.shape) == 4 else None
        if last is not None and last % _ROW:
            yield Sighting(f"the state {state}", named=(state.name,))


def several_enumerated(seen: Seen) -> Iterator[Sighting]:
    """Two or more inputs with a list of shapes each."""
    inputs = [] if seen.within else [f for f in seen.signature.inputs if len(f.enumerated) > 1]
    if len(inputs) > 1:
        yield Sighting("; ".join(map(str, inputs)), named=tuple(f.name for f in inputs))


def enumerated_batches_of_a_classifier(seen: Seen) -> Iterator[Sighting]:
    """A classifier whose input has a list of shapes, one of them with more than one sample."""
    if seen.within or seen.signature.predicted_label is None:
        return
    for given in seen.signature.inputs:
        if len(given.enumerated) > 1 and any(lengths and lengths[0] > 1 for lengths in given.enumerated):
            yield Sighting(f"a classifier of {given}", named=(given.name,))


def enumerated_before_layer_norm(seen: Seen) -> Iterator[Sighting]:
    """A ``layer_norm`` in a program whose input has a list of shapes."""
    inputs = [f for f in seen.signature.inputs if len(f.enumerated) > 1]
    for node in of(seen, "layer_norm") if inputs else ():
        yield seen.sighted(f"layer_norm behind {', '.join(map(str, inputs))}", node)


def half_rows(seen: Seen) -> Iterator[Sighting]:
    """A float16 output of two axes, as its thread has it: 5 rows or more, of more than 12 numbers and no multiple of 32."""
    for output in () if seen.within else seen.signature.outputs:
        lengths = _known(output)
        if output.dtype != "float16" or lengths is None or len(lengths) != 2:
            continue
        if lengths[0] >= _ROWS and lengths[1] > _SHORTEST and lengths[1] % _ROW:
            yield Sighting(f"the output {output}", named=(output.name,))


def _known(feature: Feature) -> tuple[int, ...] | None:
    lengths = None if feature.kind != "tensor" or feature.shape is None else [whole(n) for n in feature.shape]
    return None if lengths is None or None in lengths else tuple(n or 0 for n in lengths)


def scaled_palette(seen: Seen) -> Iterator[Sighting]:
    """A palette (``constexpr_lut_to_dense``) whose numbers are scaled by ``constexpr_blockwise_shift_scale``."""
    for node in of(seen, "constexpr_blockwise_shift_scale"):
        for read in node.inputs:
            maker = seen.graph.producer(read)
            if maker is not None and maker.operator == "constexpr_lut_to_dense":
                yield seen.sighted(f"a palette with a scale, {told(seen.graph, node.outputs[0])}", node, maker)


def palette_beside_states(seen: Seen) -> Iterator[Sighting]:
    """A palette of 16 numbers or fewer (4 bits) in a model that remembers."""
    if seen.within or not seen.signature.states:
        return
    for node in every(seen, "constexpr_lut_to_dense"):
        # the second-last axis of a table counts its entries since iOS 18; before, it has one axis
        table = seen.stored(node).get("lut", ())
        if table and (table[-2] if len(table) > 1 else table[0]) <= _ENTRIES:
            yield seen.sighted(f"a palette of 4 bits beside {', '.join(f.name for f in seen.signature.states)}", node)


def blocks_of_scales(seen: Seen) -> Iterator[Sighting]:
    """A weight of whole numbers with a scale for each block of two axes or more (``dequantize``)."""
    for node in of(seen, "dequantize"):
        for _, shape in node.parameters.values():
            # data has no scale's shape: a block takes several numbers of it
            data = next(iter(node.parameters.values()))[1]
            if shape != data and len(shape) == len(data) and sum(n > 1 for n in shape) > 1:
                yield seen.sighted(f"{list(data)} in blocks with scales {list(shape)}", node)
                break
