"""The mutations: each plants one fault at a random fitting place of an opened file, and says where and what."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.mutation_bodies import Plantable

Random = np.random.Generator


@dataclass(frozen=True)
class Planted:
    """What was done. ``layers``: the fault counts as found when one of them, or the value behind, is named."""

    layers: tuple[str, ...]
    words: str


Mutation = Callable[[Plantable, Random], Planted | None]
KINDS: dict[str, Mutation] = {}


def kind(name: str) -> Callable[[Mutation], Mutation]:
    """Registers a mutation."""

    def register(function: Mutation) -> Mutation:
        KINDS[name] = function
        return function

    return register


def _weighted(body: Plantable, rng: Random, kinds: tuple[str, ...], role: str = "weight") -> tuple[str, Any] | None:
    """A random layer of these kinds that has such a weight."""
    found = [(n, w) for n, k in body.layers() if k in kinds and (w := body.weight(n, role)) is not None and w.size > 1]
    return found[rng.integers(len(found))] if found else None


def _setting(body: Plantable, rng: Random, kinds: tuple[str, ...], key: str) -> tuple[str, Any] | None:
    found = [(n, v) for n, k in body.layers() if k in kinds and (v := body.setting(n, key)) is not None]
    return found[rng.integers(len(found))] if found else None


@kind("swapped channels")
def swapped_channels(body: Plantable, rng: Random) -> Planted | None:
    chosen = _weighted(body, rng, ("conv", "linear"))
    if chosen is None:
        return None
    layer, weight = chosen
    axes = [a for a in (0, 1) if weight.shape[a] > 2]
    if not axes:
        return None
    axis = int(rng.choice(axes))
    count = weight.shape[axis]
    order = np.arange(count)[::-1] if rng.random() < 0.5 else rng.permutation(count)
    body.set_weight(layer, "weight", np.take(weight, order, axis))
    return Planted((layer,), f"channels of axis {axis} of the weight in another order")


@kind("transposed weight")
def transposed_weight(body: Plantable, rng: Random) -> Planted | None:
    chosen = _weighted(body, rng, ("conv", "linear"))
    if chosen is None:
        return None
    layer, weight = chosen
    if weight.ndim == 2:
        if rng.random() < 0.5 and weight.shape[0] != weight.shape[1]:
            fresh = np.ascontiguousarray(weight.T).reshape(weight.shape)
        elif weight.shape[0] == weight.shape[1]:
            fresh = weight.T
        else:
            return None
    elif weight.ndim == 4 and weight.shape[2] == weight.shape[3] > 1:
        fresh = weight.swapaxes(2, 3) if rng.random() < 0.5 else weight[:, :, ::-1, ::-1]
    else:
        return None
    body.set_weight(layer, "weight", np.ascontiguousarray(fresh))
    return Planted((layer,), "weight transposed or flipped")


@kind("other weight")
def other_weight(body: Plantable, rng: Random) -> Planted | None:
    chosen = _weighted(body, rng, ("conv", "linear"))
    if chosen is None:
        return None
    layer, weight = chosen
    ways: list[tuple[str, Any]] = [
        ("sign turned", -weight),
        ("scaled by 1.5", weight * 1.5),
        ("zeroed", weight * 0),
        ("rounded to 5 levels", np.round(weight / np.abs(weight).max() * 2) / 2 * np.abs(weight).max()),
        ("of another layer", rng.permutation(weight.reshape(-1)).reshape(weight.shape)),
    ]
    words, fresh = ways[rng.integers(len(ways))]
    body.set_weight(layer, "weight", fresh)
    return Planted((layer,), f"weight {words}")


@kind("dropped bias")
def dropped_bias(body: Plantable, rng: Random) -> Planted | None:
    chosen = _weighted(body, rng, ("conv", "linear"), "bias")
    if chosen is None:
        return None
    body.set_weight(chosen[0], "bias", None)
    return Planted((chosen[0],), "bias dropped")


@kind("wrong bias")
def wrong_bias(body: Plantable, rng: Random) -> Planted | None:
    role = str(rng.choice(["bias", "beta", "gamma"]))
    chosen = _weighted(body, rng, ("conv", "linear", "norm", "layernorm"), role)
    if chosen is None:
        return None
    layer, value = chosen
    ways = [("zeroed", value * 0), ("turned round", value[::-1]), ("shifted by one", np.roll(value, 1))]
    words, fresh = ways[rng.integers(len(ways))]
    body.set_weight(layer, role, np.ascontiguousarray(fresh))
    return Planted((layer,), f"{role} {words}")


@kind("wrong constant")
def wrong_constant(body: Plantable, rng: Random) -> Planted | None:
    found = [(n, w) for n, k in body.layers() if k == "constant" and (w := body.weight(n, "constant")) is not None]
    if not found:
        return None
    layer, value = found[rng.integers(len(found))]
    body.set_weight(layer, "constant", np.roll(value, 1) * 1.3 if value.size > 1 else value * 1.6)
    return Planted((layer,), "constant (mean, std, scale) is another one")


@kind("wrong pad")
def wrong_pad(body: Plantable, rng: Random) -> Planted | None:
    chosen = _setting(body, rng, ("conv", "pool"), "pad")
    if chosen is None or sum(chosen[1]) == 0:
        return None
    layer, pad = chosen
    place = int(rng.choice([i for i in range(0, len(pad), 2) if pad[i]]))
    fresh = list(pad)
    fresh[place], fresh[place + 1] = pad[place] - 1, pad[place + 1] + 1
    if rng.random() < 0.3:
        fresh = [max(0, n - 1) for n in pad]
    body.set_setting(layer, "pad", fresh)
    return Planted((layer,), f"pad {fresh} instead of {list(pad)}")


@kind("wrong exclude")
def wrong_exclude(body: Plantable, rng: Random) -> Planted | None:
    chosen = _setting(body, rng, ("pool",), "exclude")
    if chosen is None:
        return None
    body.set_setting(chosen[0], "exclude", type(chosen[1])(not chosen[1]))
    return Planted((chosen[0],), "padding counted otherwise in an average")


@kind("wrong axis")
def wrong_axis(body: Plantable, rng: Random) -> Planted | None:
    if rng.random() < 0.3 and (turned := _setting(body, rng, ("transpose",), "perm")) is not None:
        layer, perm = turned
        perm = list(perm)
        body.set_setting(layer, "perm", [*perm[:-2], perm[-1], perm[-2]])
        return Planted((layer,), "permutation with its last axes exchanged")
    chosen = _setting(body, rng, ("softmax", "concat", "reduce"), "axis")
    if chosen is None:
        return None
    layer, axis = chosen
    if isinstance(axis, list):
        if len(axis) > 1:
            return None
        fresh: Any = [a - 1 if a < 0 else max(0, a - 1) for a in axis]
    else:
        fresh = -2 if axis == -1 else axis + 1 if axis == 1 else axis - 1
    body.set_setting(layer, "axis", fresh)
    return Planted((layer,), f"axis {fresh} instead of {axis}")


@kind("wrong epsilon")
def wrong_epsilon(body: Plantable, rng: Random) -> Planted | None:
    chosen = _setting(body, rng, ("layernorm", "norm"), "epsilon")
    if chosen is None:
        return None
    fresh = float(rng.choice([1e-3, 1e-2, 0.1, 1.0]))
    body.set_setting(chosen[0], "epsilon", fresh)
    return Planted((chosen[0],), f"epsilon {fresh} instead of {chosen[1]:.2g}")


@kind("wrong alpha")
def wrong_alpha(body: Plantable, rng: Random) -> Planted | None:
    chosen = _setting(body, rng, ("activation",), "alpha")
    if chosen is None:
        return None
    fresh = float(rng.choice([0.0, 0.01, 0.3, 1.0]))
    body.set_setting(chosen[0], "alpha", fresh)
    return Planted((chosen[0],), f"alpha {fresh} instead of {chosen[1]:.2g}")


@kind("baked batch")
def baked_batch(body: Plantable, rng: Random) -> Planted | None:
    chosen = _setting(body, rng, ("reshape",), "shape")
    if chosen is None:
        return None
    layer, shape = chosen
    batch = int(rng.choice([4, 8, 10]))
    fresh = [batch, *shape[1:]]
    if rng.random() < 0.5 and -1 not in shape and len(shape) == 2:
        fresh[1] = -1
    body.set_setting(layer, "shape", fresh)
    return Planted((layer,), f"reshape to {fresh} instead of {list(shape)}")


@kind("hostile scale")
def hostile_scale(body: Plantable, rng: Random) -> Planted | None:
    """One layer scaled up beyond float16, the next one scaled down: the same in real numbers."""
    layers = body.layers()
    pairs = []
    for (a, x), (b, y) in itertools.pairwise(layers):
        if (
            x == y
            and x in ("conv", "linear")
            and body.weight(a, "weight") is not None
            and body.weight(b, "weight") is not None
        ):
            pairs.append((a, b))
    if not pairs:
        return None
    up, down = pairs[rng.integers(len(pairs))]
    factor = 2.0**15
    for layer, by in ((up, factor), (down, 1 / factor)):
        weight = body.weight(layer, "weight")
        assert weight is not None
        body.set_weight(layer, "weight", np.clip(weight.astype(np.float64) * by, -65504, 65504))
    bias = body.weight(up, "bias")
    if bias is not None:
        body.set_weight(up, "bias", np.clip(bias.astype(np.float64) * factor, -65504, 65504))
    return Planted((up, down), f"{up} scaled by {factor:g} and {down} back")


@kind("shifted labels")
def shifted_labels(body: Plantable, rng: Random) -> Planted | None:
    labels = body.labels()
    if not labels:
        return None
    ways = [[labels[-1], *labels[:-1]], labels[::-1], [str(x) for x in rng.permutation(labels)]]
    stored = body.set_labels(ways[rng.integers(len(ways))])
    return Planted((), "labels in another order") if stored else None


@kind("wrong preprocessing")
def wrong_preprocessing(body: Plantable, rng: Random) -> Planted | None:
    """The scale or bias of the picture, where the format has one or the first layers do it."""
    words = body.spoil_preprocessing(float(rng.choice([0.5, 1.0 / 255, 2.0, 255.0])))
    return None if words is None else Planted((), words)
