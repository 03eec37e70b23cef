"""The scales beside layers, which a converter may take into their weights or leave out of them, and how large each is.

A source's convolution is followed by a normalisation with fixed statistics, or by a multiplication by stored numbers; in the
candidate its weight holds those factors, or some of them, and the rest still stands beside it. So what a weight was made from is
the source's times a product of the source's scales over a product of the candidate's own, which are known to the last digit.
Only where a scale is not stored (it is computed, or an operator's own) its factor has to be guessed from the weights themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coreproof.conversion.operators import canonical_op, error_class, operation_of
from coreproof.model.graph import Graph, Node
from coreproof.model.layer_weights import WeightRef
from coreproof.verification.integer_products import INTEGERS, scale_beside, vector

Array = npt.NDArray[np.float64]

_DIVIDES = frozenset({"realdiv", "divide", "div"})
_SCALES = frozenset({"mul", "scale"}) | _DIVIDES
"""Besides normalisations, whose scales are stored as well."""

_LEAVES = frozenset({"cast", "tocopy"})
"""What leaves numbers as they are, besides moves."""

_FAR = 64
"""Layers looked at around a layer for scales."""

_MOST = 6
"""Different products of scales on one side of a layer that are told apart; of more none is known."""

_SEEN = 64
"""Places along each axis of a weight that are looked at to find which factors are in it."""

_EPSILON = 1e-5
"""A batch normalisation's, where the file says none: every format's default."""


class Scales(NamedTuple):
    """What stands beside a layer: the products of one, two and more scales ``behind`` it, nearest first, and ``before`` it.

    Each is one number, or one for each channel. ``unknown``: another scale stands there, of which the factor cannot be read.
    """

    behind: tuple[Array, ...] = ()
    before: tuple[Array, ...] = ()
    unknown: bool = False

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Whether each product can stand in a weight of this shape."""
        return all(any(True for _ in _placed(product, shape)) for product in (*self.behind, *self.before))


class _Scale(NamedTuple):
    """What a layer does to what passes: multiplies it by stored numbers (None: by 1); ``ends``: nothing passes on."""

    factor: Array | None = None
    ends: bool = False
    unknown: bool = False


_NOTHING, _STOP, _UNKNOWN = _Scale(), _Scale(ends=True), _Scale(ends=True, unknown=True)


def scales_beside(graph: Graph, known: Mapping[str, Mapping[str, WeightRef]]) -> dict[str, Scales]:
    """The scales beside each layer with a weight that it computes a product with, by the layer's name.

    Moves, casts and a bias may lie between, for a factor of what a layer makes is one of its bias too; no sum of two values.
    ``known``: the weights of all layers.
    """
    found: dict[str, Scales] = {}
    for node in graph.nodes:
        if node.name in known and (error_class(operation_of(node)) == "linear" or node.operator in INTEGERS):
            behind, hidden = _walked(graph, known, node, back=False)
            before, further = _walked(graph, known, node, back=True)
            found[node.name] = Scales(behind, before, hidden or further)
    return found


def _walked(
    graph: Graph, known: Mapping[str, Mapping[str, WeightRef]], start: Node, *, back: bool
) -> tuple[tuple[Array, ...], bool]:
    products: list[Array] = []
    first = np.ones(1) if back else _own_scale(known[start.name], start)
    unknown = first is None
    if first is None:
        first = np.ones(1)
    elif not (first == 1).all():
        products.append(first)
    front, seen = [(start, first)], {start.name}
    while front and len(seen) < _FAR:
        node, product = front.pop()
        for other in _near(graph, node, back=back):
            if other.name in seen:
                continue
            seen.add(other.name)
            scale = _scale_of(graph, known.get(other.name, {}), known, other, back=back)
            unknown = unknown or scale.unknown
            after = product
            if scale.factor is not None:
                if 1 not in (product.size, scale.factor.size) and product.size != scale.factor.size:
                    unknown = True
                    continue
                after = product * scale.factor
                if not any(np.array_equal(after, each) for each in products):
                    products.append(after)
            if not scale.ends:
                front.append((other, after))
    return (tuple(products), unknown) if len(products) <= _MOST else ((), True)


def _own_scale(held: Mapping[str, WeightRef], node: Node) -> Array | None:
    """What a layer multiplies its product by itself; None where that is not known."""
    if node.operator == "Gemm":
        alpha = node.attributes.get("alpha", 1.0)
        return np.full(1, float(alpha), np.float64) if isinstance(alpha, (int, float)) else None
    if node.operator not in INTEGERS:
        return np.ones(1)
    return scale_beside(node, held)


def _near(graph: Graph, node: Node, *, back: bool) -> list[Node]:
    if back:
        return [maker for name in _data(graph, node) if (maker := graph.producer(name)) is not None]
    return [reader for name in node.outputs for reader in graph.consumers(name)]


def _data(graph: Graph, node: Node) -> list[str]:
    """What a layer computes with that is neither stored nor made of stored values alone."""
    return [name for name in graph.data(node) if not _is_stored(graph, name)]


def _is_stored(graph: Graph, name: str, deep: int = 3) -> bool:
    maker = graph.producer(name)
    if maker is None:
        return graph.is_constant(name)
    return deep > 0 and all(graph.is_constant(n) or _is_stored(graph, n, deep - 1) for n in maker.inputs)


def _is_vector(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    return value is not None and value.shape is not None and len(value.shape) <= 1


def _scale_of(
    graph: Graph,
    held: Mapping[str, WeightRef],
    known: Mapping[str, Mapping[str, WeightRef]],
    node: Node,
    *,
    back: bool,
) -> _Scale:
    word, kind = canonical_op(node.operator), error_class(operation_of(node))
    if kind == "norm":
        return _of_normalisation(graph, held, node, back=back)
    data = _data(graph, node)
    if len(data) != 1:
        # a scale that is measured while the model runs, and multiplied by a stored one (dynamic quantisation)
        measured = word in _SCALES and any(_is_vector(graph, name) for name in data)
        return _UNKNOWN if measured else _STOP
    if word not in _SCALES:
        return _NOTHING if kind in ("move", "add") or word in _LEAVES else _STOP
    factor = _stored_factor(graph, held, known, node)
    if word not in _DIVIDES:
        return _UNKNOWN if factor is None else _Scale(factor)
    # what is divided by it scales nothing
    if node.inputs[0] != data[0] or "argument0" in node.attributes:
        return _STOP
    return _UNKNOWN if factor is None or not factor.all() else _Scale(1.0 / factor)


def _of_normalisation(graph: Graph, held: Mapping[str, WeightRef], node: Node, *, back: bool) -> _Scale:
    """A normalisation with fixed statistics scales whatever passes; one that measures them only what is behind it."""
    floats = {name: weight for name, weight in held.items() if "float" in weight.dtype}
    scale, variance = held.get("gamma") or held.get("scale"), held.get("variance")
    fixed = "batchnorm" in node.operator.lower().replace("_", "")
    if not fixed or node.attributes.get("computeMeanVar") or node.attributes.get("instanceNormalization"):
        if not back:
            return _STOP
        # of what else it reads besides one value nothing is known
        if len(_data(graph, node)) != 1:
            return _UNKNOWN
        first = scale or next(iter(floats.values()), None)
        factor = None if first is None else vector(first)
        return _STOP if first is None else _UNKNOWN if factor is None else _Scale(factor, ends=True)
    if node.operator == "BatchNormalization":
        # ONNX's, of which two may be one initializer
        scale, variance = (held.get(node.inputs[at]) if at < len(node.inputs) else None for at in (1, 4))
        if scale is None:
            return _UNKNOWN
    elif not held.keys() & {"gamma", "beta", "mean", "variance"} and len(floats) in (2, 4):
        # PyTorch's: scale, shift, mean and variance, or the last two alone
        vectors = list(floats.values())
        scale, variance = (vectors[0] if len(vectors) == 4 else None), vectors[-1]
    parts = [None if each is None else vector(each) for each in (scale, variance)]
    if parts[1] is None or (parts[0] is None and scale is not None):
        return _UNKNOWN
    # PyTorch's last number, the others' by its name
    numbers = [value for value in node.attributes.values() if isinstance(value, float)]
    epsilon = node.attributes.get("epsilon", numbers[-1] if numbers else _EPSILON)
    spread = parts[1] + float(str(epsilon))
    if not np.all(spread > 0):
        return _UNKNOWN
    return _Scale((1.0 if parts[0] is None else parts[0]) / np.sqrt(spread))


def _stored_factor(
    graph: Graph, held: Mapping[str, WeightRef], known: Mapping[str, Mapping[str, WeightRef]], node: Node
) -> Array | None:
    """What a layer multiplies or divides by; None where it is not one number, or one for each place along one axis."""
    if "scale" in held:  # a NeuralNetwork's layer, beside its bias
        return vector(held["scale"])
    floats = [weight for weight in held.values() if "float" in weight.dtype]
    if not floats:
        makers = [maker for name in node.inputs if (maker := graph.producer(name)) is not None and not maker.inputs]
        floats = [weight for maker in makers for weight in known.get(maker.name, {}).values()]
    if len(floats) == 1:
        return vector(floats[0])
    numbers = [v for v in node.attributes.values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return np.full(1, float(numbers[0]), np.float64) if not floats and len(numbers) == 1 else None


def known_factors(now: Array, meant: Array, mine: Scales, other: Scales) -> list[Array]:
    """The two factors, of those that stand beside a weight or the one that it was made from, that bring the latter nearest to it.

    Each broadcasts over the weight. ``mine`` are the scales beside the layer of ``now``, ``other`` those beside ``meant``'s.
    """
    # evenly spread numbers say which
    part = tuple(slice(None, None, max(1, length // _SEEN)) for length in now.shape)
    seen, source = now[part], meant[part]
    kept = seen != 0  # of what was left out nothing can be said
    found: list[tuple[float, int, Array]] = []
    before = list(_quotients(other.before, mine.before))
    for out in _quotients(other.behind, mine.behind):
        for into in before:
            if out is None and into is None:
                continue
            for one in _everywhere(out, now.shape):
                for two in _everywhere(into, now.shape):
                    factors = one * two
                    off = np.where(kept, seen - source * np.broadcast_to(factors, now.shape)[part], 0.0)
                    found.append((float(np.square(off).sum()), len(found), factors))
    return [factors for _, _, factors in sorted(found, key=lambda each: each[:2])[:2]]


def _quotients(over: Iterable[Array], under: Iterable[Array]) -> Iterator[Array | None]:
    """Each product of the one side over each of the other; None for what changes nothing."""
    below: list[Array | None] = [None, *under]
    above: list[Array | None] = [None, *over]
    for top in above:
        for bottom in below:
            if bottom is None:
                yield top
            elif bottom.all() and (top is None or 1 in (top.size, bottom.size) or top.size == bottom.size):
                yield (1.0 if top is None else top) / bottom


def _everywhere(factor: Array | None, shape: tuple[int, ...]) -> Iterator[Array]:
    if factor is None:
        yield np.ones([1] * len(shape))
    else:
        yield from _placed(factor, shape)


def _placed(factor: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """The factors as they may stand in a weight: along an axis, also where that was flattened from several, or group by group."""
    size = factor.size
    if size == 1:
        yield factor.reshape([1] * len(shape))
        return
    for axis, length in enumerate(shape):
        along = [-1 if at == axis else 1 for at in range(len(shape))]
        if length and length % size == 0:
            yield np.repeat(factor, length // size).reshape(along)
            if length > size:
                yield np.tile(factor, length // size).reshape(along)
    # [outputs, inputs of each group]
    if len(shape) > 1 and size > shape[1] > 1 and size % shape[1] == 0 and shape[0] % (size // shape[1]) == 0:
        groups = size // shape[1]
        rows = np.repeat(factor.reshape(groups, 1, shape[1]), shape[0] // groups, axis=1)
        yield rows.reshape(shape[0], shape[1], *([1] * (len(shape) - 2)))
