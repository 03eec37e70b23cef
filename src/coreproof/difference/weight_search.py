"""The weights of one model found in another by their numbers, whatever format, layer, name or order of axes holds them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

import numpy as np

from coreproof.difference.layer_match import flat_layers, only_holds
from coreproof.difference.weight_change import weight_change
from coreproof.model.base import Model
from coreproof.model.layer_weights import WeightRef, all_weights
from coreproof.model.progress import Progress

_SMALLEST = 8
"""Shorter weights are too often alike by chance."""
_LIKE = 0.005
"""How far apart the sums of squares of two weights may be that hold the same numbers, rounding and palettes allowed."""
_UNLIKE = ("changed", "slightly changed", "other numbers", "another shape", "elements changed", "value")

# indices, shapes and tables, of which many are alike; quantised weights are read as floats
_INTEGERS = ("int64", "int32", "uint64", "uint32", "bool", "str")


_QUANTISING = ("DequantizeLinear", "QuantizeLinear")


@dataclass(frozen=True)
class FoundWeight:
    """A weight of one model that is in the other too, under whatever name: "layer/parameter" on both sides."""

    before: str
    after: str
    words: str


def find_weights(
    before: Model, after: Model, report: Progress
) -> tuple[tuple[FoundWeight, ...], tuple[str, ...], tuple[str, ...]]:
    """Weights in both models, those of ``before`` only, those of ``after`` only; "layer/parameter" each."""
    weights, others = dict(_floats(before)), dict(_floats(after))
    energies = {}
    for done, (name, weight) in enumerate(others.items()):
        energies[name] = _energy(weight.read())
        report(f"reading {after.name}", done + 1, len(others))
    found, lost, free = [], [], dict.fromkeys(others)
    # those like another one are found without a look at all of them
    listed = sorted(
        (w.size, energies[n], i, n) for i, (n, w) in enumerate(others.items()) if not math.isnan(energies[n])
    )
    for done, (name, weight) in enumerate(weights.items()):
        array = weight.read()
        near = (n for n in _near(listed, weight.size, _energy(array)) if n in free)
        match = next(((n, w) for n in near if (w := _words(array, weight, others[n])) is not None), None)
        if match is None:
            lost.append(name)
        else:
            found.append(FoundWeight(name, match[0], match[1]))
            del free[match[0]]
        report("looking for weights", done + 1, len(weights))
    return tuple(found), tuple(lost), tuple(free)


def _near(listed: Sequence[tuple[int, float, int, str]], size: int, energy: float) -> list[str]:
    """The weights of that size whose energy is like that one, in their own order; ``listed``: all, sorted by both."""
    if not math.isfinite(energy):
        return []  # weights with NaN or infinity in them are like no other
    reach = _LIKE * energy
    first = bisect_left(listed, (size, energy - reach))
    found = takewhile(lambda each: each[0] == size and each[1] <= energy + reach, islice(listed, first, None))
    return [name for _, name in sorted((place, name) for _, _, place, name in found)]


def _floats(model: Model) -> Iterator[tuple[str, WeightRef]]:
    """Weights long enough to be told apart, as the layers that compute with them see them; a shared one counts once."""
    storage = {name for name, node in flat_layers(model.graph) if only_holds(node) or node.operator in _QUANTISING}
    seen: set[str] = set()
    for layer, weights in all_weights(model).items():
        if layer in storage:
            continue
        for parameter, reference in weights.items():
            shared = model.is_source and parameter in seen
            if reference.size >= _SMALLEST and reference.dtype not in _INTEGERS and not shared:
                seen.add(parameter)
                yield f"{layer}/{parameter}", reference


def _energy(array: np.ndarray) -> float:
    return float(np.sum(np.square(array.astype(np.float64))))


def _words(array: np.ndarray, before: WeightRef, after: WeightRef) -> str | None:
    """How the one became the other; None when they are not the same weight."""
    change = weight_change("", array, after.read(), (before.dtype, after.dtype))
    if change.equal:
        return "equal"
    return None if any(word in change.words for word in _UNLIKE) else change.words
