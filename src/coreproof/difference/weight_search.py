"""The weights of one model found in another by their numbers, whatever format, layer, name or order of axes holds them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from coreproof.difference.layer_match import flat_layers, only_holds
from coreproof.difference.weight_change import weight_change
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.layer_weights import WeightRef, all_weights

_SMALLEST = 8
"""Shorter weights are too often alike by chance."""
_LIKE = 0.005
"""How far apart the sums of squares of two weights may be that hold the same numbers, rounding and palettes allowed."""
_UNLIKE = ("changed", "slightly changed", "other numbers", "another shape", "elements changed", "value")

_INTEGERS = ("int64", "int32", "uint64", "uint32", "bool", "str")


@dataclass(frozen=True)
class FoundWeight:
    """A weight of one model that is in the other too, under whatever name: "layer/parameter" on both sides."""

    before: str
    after: str
    words: str


def find_weights(
    before: Model, after: Model, report: Callable[[str, int, int], None]
) -> tuple[tuple[FoundWeight, ...], tuple[str, ...], tuple[str, ...]]:
    """Weights in both models, those of ``before`` only, those of ``after`` only; "layer/parameter" each."""
    weights, others = dict(_floats(before)), dict(_floats(after))
    energies = {}
    for done, (name, weight) in enumerate(others.items()):
        energies[name] = _energy(weight.read())
        report(f"reading {after.name}", done + 1, len(others))
    found, lost, free = [], [], dict.fromkeys(others)
    likely = _Likely({name: weight.size for name, weight in others.items()}, energies)
    for done, (name, weight) in enumerate(weights.items()):
        array = weight.read()
        near = (n for n in likely.near(weight.size, _energy(array)) if n in free)
        match = next(((n, w) for n in near if (w := _words(array, weight, others[n])) is not None), None)
        if match is None:
            lost.append(name)
        else:
            found.append(FoundWeight(name, match[0], match[1]))
            del free[match[0]]
        report("looking for weights", done + 1, len(weights))
    return tuple(found), tuple(lost), tuple(free)


class _Likely:
    """Weights by their size and energy, so that those like another one are found without a look at all of them."""

    def __init__(self, sizes: Mapping[str, int], energies: Mapping[str, float]) -> None:
        self._by_size: dict[int, list[tuple[float, int, str]]] = {}
        for place, (name, size) in enumerate(sizes.items()):
            if not math.isnan(energies[name]):
                self._by_size.setdefault(size, []).append((energies[name], place, name))
        for listed in self._by_size.values():
            listed.sort()

    def near(self, size: int, energy: float) -> list[str]:
        """The weights of that size whose energy is like that one, in their own order."""
        listed = self._by_size.get(size, [])
        first = (
            bisect_left(listed, energy - 2 * _LIKE * energy, key=lambda entry: entry[0]) if math.isfinite(energy) else 0
        )
        found = []
        for known, place, name in islice(listed, first, None):
            if known - energy > _LIKE * energy:
                break
            if abs(known - energy) <= _LIKE * energy:
                found.append((place, name))
        return [name for _, name in sorted(found)]


def _floats(model: Model) -> Iterator[tuple[str, WeightRef]]:
    """Weights long enough to be told apart, as the layers that compute with them see them; a shared one counts once."""
    storage = {name for name, node in flat_layers(model.graph) if _only_stores(node)}
    seen: set[str] = set()
    for layer, weights in all_weights(model).items():
        if layer in storage:
            continue
        for parameter, reference in weights.items():
            shared = model.is_source and parameter in seen
            if reference.size >= _SMALLEST and reference.dtype not in _INTEGERS and not shared:
                seen.add(parameter)
                yield f"{layer}/{parameter}", reference


def _only_stores(node: Node) -> bool:
    return only_holds(node) or node.operator in ("DequantizeLinear", "QuantizeLinear")


def _energy(array: np.ndarray) -> float:
    return float(np.sum(np.square(array.astype(np.float64))))


def _words(array: np.ndarray, before: WeightRef, after: WeightRef) -> str | None:
    """How the one became the other; None when they are not the same weight."""
    change = weight_change("", array, after.read(), (before.dtype, after.dtype))
    if change.equal:
        return "equal"
    return None if any(word in change.words for word in _UNLIKE) else change.words
