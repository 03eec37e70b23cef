"""The weights of a float16 program as they were before: found again in the source, by what rounding makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from coreproof.conversion.coreml_to_onnx.mlprogram.switches import SMALLEST_NORMAL, SMALLEST_SUBNORMAL
from coreproof.model.base import Model
from coreproof.model.coreml.literals import read_literal
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats.program import dtype_of, main, nodes, ordered_arguments
from coreproof.model.layer_weights import all_weights
from coreproof.model.numbers import FLOAT16_MAX

Array = np.ndarray


def stored_halves(model: CoreMLModel) -> dict[tuple[str, str], Array]:
    """The float16 constants of the operations of an ML Program: (operation, argument) -> what is stored."""
    operations = list(nodes(main(model.spec).operations))
    halves = {
        operation.outputs[0].name: operation.attributes["val"]
        for operation in operations
        if operation.type == "const" and dtype_of(operation.outputs[0].type) == "float16"
    }
    # a list of values, as of concat, holds no weight
    alone = (
        (operation.outputs[0].name, key, argument.arguments[0].name)
        for operation in operations
        if operation.outputs
        for key, argument in ordered_arguments(operation)
        if len(argument.arguments) == 1
    )
    return {(made, key): np.asarray(read_literal(model, halves[name])) for made, key, name in alone if name in halves}


def is_extreme(stored: Array) -> bool:
    """Whether a float16 constant looks like one that did not fit: it reaches the end of the range, or is all but zero."""
    size = np.abs(stored)
    return bool(size.size) and bool((size >= FLOAT16_MAX).any() or not size.max() >= SMALLEST_NORMAL)


def weights_before(stored: Mapping[tuple[str, str], Array], source: Model) -> dict[tuple[str, str], Array]:
    """(operation, argument) -> the source's weight that rounds to the one stored, in its shape; only where the two differ.

    A scalar that became zero is taken only where the source has one such number.
    """
    by_size: dict[int, list[Array]] = {}
    wanted = {array.size for array in stored.values()}
    for weight in _weights(source, wanted):
        by_size.setdefault(weight.size, []).append(weight)
    found: dict[tuple[str, str], Array] = {}
    for place, array in stored.items():
        fitting = [w for c in by_size.get(array.size, ()) for w in _orders(c) if _rounds_to(w, array)]
        # a small scalar rounds to zero as many others do: it has to be the only one
        if array.size == 1:
            fitting = [w for w in fitting if w[0] != 0]
        if not fitting or (array.size == 1 and len({float(w[0]) for w in fitting}) > 1):
            continue
        wide = fitting[0].astype(np.float32).reshape(array.shape)
        if not np.array_equal(wide, array):
            found[place] = wide
    return found


def _weights(source: Model, sizes: set[int]) -> Iterator[Array]:
    for parameters in all_weights(source).values():
        for reference in parameters.values():
            if reference.size in sizes:
                array = np.asarray(reference.read())
                if array.dtype.kind == "f":
                    yield array
    if 1 in sizes:
        for node in source.graph.nodes:
            for value in node.attributes.values():
                if isinstance(value, float):
                    yield np.asarray([value], np.float32)


def _orders(weight: Array) -> Iterator[Array]:
    """The numbers in the orders in which a converter may have stored them: as they are, and transposed."""
    yield weight.reshape(-1)
    if weight.ndim >= 2:
        yield np.swapaxes(weight, -1, -2).reshape(-1)
        yield np.swapaxes(weight, 0, 1).reshape(-1)


def _rounds_to(wide: Array, stored: Array) -> bool:
    """Whether float16 makes ``stored`` of ``wide``: too large becomes infinite or 65504, too small zero or 6e-8."""
    flat = stored.reshape(-1)
    with np.errstate(over="ignore"):
        half = wide.astype(np.float16)
    same = half == flat
    same |= np.isinf(half) & (flat == np.copysign(np.float16(FLOAT16_MAX), half))
    same |= (half == 0) & (np.abs(flat) == np.float16(SMALLEST_SUBNORMAL))
    # a zero of the source's is no number that became zero
    return bool(same.all()) and bool(np.any(wide) or not np.any(flat))
