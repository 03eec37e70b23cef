"""ai.onnx.ml: trees, and operators that pick and cut, as products and comparisons of an ML Program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name, without_bool
from coreproof.model.budget import afford

ML = "ai.onnx.ml"
_DEEPEST = 10_000


@lowering("ArrayFeatureExtractor", domain=ML, error="move", hands_on="part", places=(1,))
def array_feature_extractor(ctx: Context, x: Operand, y: Operand) -> Result:
    """Columns by their numbers; a vector counts as one row."""
    places = y.reshape(-1) if isinstance(y, np.ndarray) else ctx.mb.reshape(x=y, shape=[-1])
    rows = ctx.mb.expand_dims(x=x, axes=[0]) if ctx.rank(x) == 1 else x
    return without_bool(ctx, [rows], lambda v: ctx.mb.gather(x=v, indices=places, axis=ctx.rank(rows) - 1))


@lowering("Binarizer", domain=ML)
def binarizer(ctx: Context, x: Operand, *, threshold: float = 0.0) -> Result:
    """1 above the threshold, else 0."""
    limit = ctx.scalar(threshold) if ctx.is_float(x) else np.int32(np.floor(threshold))
    return cast(ctx, ctx.mb.greater(x=x, y=limit), float_name(ctx) if ctx.is_float(x) else "int32")


_COMPARED = ("less_equal", "less", "greater_equal", "greater", "equal", "not_equal")
"""What a node of mode 0, 1, ... asks, in MIL's words."""
_MEMBER = len(_COMPARED)


@dataclass
class _Tree:
    """One tree: the nodes that it asks, in any order, and for each way down which of them have to say yes, and which no."""

    nodes: list[int] = field(default_factory=list)
    ways: list[tuple[list[int], list[int], int]] = field(default_factory=list)


@lowering("TreeEnsemble", since=5, domain=ML)
def tree_ensemble(
    ctx: Context,
    x: Operand,
    *,
    leaf_targetids: Sequence[int],
    leaf_weights: Array,
    nodes_falseleafs: Sequence[int],
    nodes_falsenodeids: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_modes: Array,
    nodes_splits: Array,
    nodes_trueleafs: Sequence[int],
    nodes_truenodeids: Sequence[int],
    tree_roots: Sequence[int],
    aggregate_function: int = 1,
    membership_values: Array | None = None,
    n_targets: int = 1,
    nodes_hitrates: Array | None = None,
    nodes_missing_value_tracks_true: Sequence[int] | None = None,
    post_transform: int = 0,
) -> Result:
    """All nodes are asked at once; a leaf is reached where as many answers on its way are right as it is long.

    [rows, nodes] of answers times the ways [nodes, leaves] counts them, tree by tree; nothing depends on what was asked before.
    """
    mb = ctx.mb
    modes = np.asarray(nodes_modes).reshape(-1).astype(int)

    def below(node: int, yes: bool) -> tuple[bool, int]:
        leaves, numbers = (nodes_trueleafs, nodes_truenodeids) if yes else (nodes_falseleafs, nodes_falsenodeids)
        return bool(leaves[node]), numbers[node]

    trees = [_walked(ctx, root, below) for root in tree_roots]
    most = max(len(t.nodes) for t in trees)
    leaves = max(len(t.ways) for t in trees)
    afford("the ways through the trees", (len(trees), most, leaves), 8)
    ways = np.zeros((len(trees), most, leaves), np.float32)
    right = np.full((len(trees), 1, leaves), -1.0, np.float32)  # a way that is none is never walked
    weights = np.zeros((len(trees), leaves, n_targets), np.float32)
    reaches = np.zeros_like(weights)
    asked = np.zeros((len(trees), most), np.int64)
    for at, tree in enumerate(trees):
        asked[at, : len(tree.nodes)] = tree.nodes
        own = {node: place for place, node in enumerate(tree.nodes)}
        for leaf, (yes, no, end) in enumerate(tree.ways):
            ways[at, [own[n] for n in yes], leaf] = 1
            ways[at, [own[n] for n in no], leaf] = -1
            right[at, 0, leaf] = len(yes)
            weights[at, leaf, leaf_targetids[end]] = np.asarray(leaf_weights).reshape(-1)[end]
            reaches[at, leaf, leaf_targetids[end]] = 1
    flat = asked.reshape(-1)
    wide = x if ctx.dtype == np.float32 and ctx.is_float(x) else mb.cast(x=x, dtype="fp32")
    features = np.asarray(nodes_featureids, np.int32)[flat]
    seen = mb.gather(x=wide, indices=features, axis=1)  # [rows, trees * nodes]
    splits = np.asarray(nodes_splits, np.float32).reshape(-1)
    said = _answers(ctx, seen, modes[flat], splits[flat], _members(modes, membership_values), flat)
    if nodes_missing_value_tracks_true is not None and any(nodes_missing_value_tracks_true):
        tracks = np.asarray(nodes_missing_value_tracks_true, bool)[flat][None]
        missing = mb.cast(x=mb.logical_and(x=mb.not_equal(x=seen, y=seen), y=tracks), dtype="fp32")
        said = mb.maximum(x=said, y=missing)
    answers = mb.transpose(x=mb.reshape(x=said, shape=[-1, len(trees), most]), perm=[1, 0, 2])
    counted = mb.matmul(x=answers, y=ways)  # [trees, rows, leaves]
    reached = mb.cast(x=mb.equal(x=counted, y=right), dtype="fp32")
    total = _aggregated(ctx, reached, weights, reaches, aggregate_function)
    return _transformed(ctx, cast(ctx, total, float_name(ctx)) if ctx.dtype == np.float16 else total, post_transform)


def _walked(ctx: Context, root: int, below: object) -> _Tree:
    """Every way down, without a call for each step: trees may be deep."""
    assert callable(below)
    tree = _Tree()
    known: set[int] = set()
    waiting: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = [(root, (), ())]
    while waiting:
        node, yes, no = waiting.pop()
        if len(yes) + len(no) > _DEEPEST or node in (*yes, *no):
            raise ctx.refuse(f"the tree of node {root} comes back to node {node}", "a tree")
        if node not in known:
            known.add(node)
            tree.nodes.append(node)
        for answer in (True, False):
            is_leaf, child = below(node, answer)
            ways = ((*yes, node), no) if answer else (yes, (*no, node))
            if is_leaf:
                tree.ways.append((list(ways[0]), list(ways[1]), child))
            else:
                waiting.append((child, *ways))
    return tree


def _members(modes: Array, values: Array | None) -> dict[int, Array]:
    """The set of each node that asks for one; the sets follow each other, a NaN behind each."""
    sets = list(_cut_at_nan(np.asarray([] if values is None else values, np.float64).reshape(-1)))
    return dict(zip(np.flatnonzero(modes == _MEMBER).tolist(), sets, strict=False))


def _cut_at_nan(values: Array) -> Iterator[Array]:
    begin = 0
    for end in [*np.flatnonzero(np.isnan(values)).tolist(), len(values)]:
        if end > begin or end < len(values):
            yield values[begin:end]
        begin = end + 1


def _answers(ctx: Context, seen: Operand, modes: Array, splits: Array, sets: dict[int, Array], nodes: Array) -> Operand:
    """[rows, nodes] of 0 and 1; NaN says no to everything but "not equal"."""
    mb = ctx.mb
    total: Operand | None = None
    for mode in sorted(set(modes.tolist())):
        here = (modes == mode)[None]
        if mode == _MEMBER:
            widest = max(len(values) for values in sets.values())
            table = np.full((1, len(nodes), widest), np.nan, np.float32)  # NaN equals nothing
            for place, node in enumerate(nodes.tolist()):
                if node in sets:
                    table[0, place, : len(sets[node])] = sets[node]
            hit = mb.cast(x=mb.equal(x=mb.expand_dims(x=seen, axes=[2]), y=table), dtype="fp32")
            found = mb.reduce_max(x=hit, axes=[2], keep_dims=False)
        elif 0 <= mode < _MEMBER:
            compare = getattr(mb, _COMPARED[mode])
            found = mb.cast(x=compare(x=seen, y=np.where(here, splits[None], np.float32(0))), dtype="fp32")
        else:
            raise ctx.refuse(f"nodes of mode {mode}", "modes 0 to 6")
        own = found if here.all() else mb.mul(x=found, y=here.astype(np.float32))
        total = own if total is None else mb.add(x=total, y=own)
    assert total is not None
    return total


def _aggregated(ctx: Context, reached: Operand, weights: Array, reaches: Array, how: int) -> Operand:
    """[rows, targets]: the leaves that were reached, averaged over all trees, added up, or the smallest or largest of them."""
    mb = ctx.mb
    if how in (0, 1):
        total = mb.reduce_sum(x=mb.matmul(x=reached, y=weights), axes=[0], keep_dims=False)
        return total if how else mb.mul(x=total, y=np.float32(1 / len(weights)))
    if how not in (2, 3):
        raise ctx.refuse(f"aggregate_function {how}", "0 to 3")
    # a tree reaches one leaf, so that its products are what that leaf says
    own, any_leaf = mb.matmul(x=reached, y=weights), mb.matmul(x=reached, y=reaches)
    nothing = mb.equal(x=any_leaf, y=np.float32(0))
    far = np.float32(np.inf if how == 2 else -np.inf)
    bounded = mb.select(cond=nothing, a=far, b=own)
    reduce = mb.reduce_min if how == 2 else mb.reduce_max
    best = reduce(x=bounded, axes=[0], keep_dims=False)
    return mb.select(cond=mb.equal(x=best, y=far), a=np.float32(0), b=best)


def _transformed(ctx: Context, scores: Operand, how: int) -> Result:
    if how == 0:
        return scores
    if how == 1:
        return ctx.mb.softmax(x=scores, axis=-1)
    if how == 2:
        return ctx.mb.sigmoid(x=scores)
    if how == 3:  # zeros stay zeros, and take no share
        zero = ctx.mb.equal(x=scores, y=ctx.scalar(0))
        own = ctx.mb.exp(x=ctx.mb.sub(x=scores, y=ctx.mb.reduce_max(x=scores, axes=[-1], keep_dims=True)))
        own = ctx.mb.select(cond=zero, a=ctx.scalar(0), b=own)
        return ctx.mb.real_div(x=own, y=ctx.mb.reduce_sum(x=own, axes=[-1], keep_dims=True))
    raise ctx.refuse(f"post_transform {how}", "none, softmax, logistic or softmax_zero")
