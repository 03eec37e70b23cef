"""ai.onnx.ml's tree ensembles: all trees take a step down at once, from their roots to their leaves.

The standard has two spellings: TreeEnsemble numbers nodes and leaves on their own; its forerunners, TreeEnsembleClassifier
and TreeEnsembleRegressor, number the nodes of each tree, leaves among them. Both are read into a ``Forest``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Required, TypedDict, Unpack

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.classes import ML, labelled, one_for_two, transformed
from coreproof.conversion.onnx_to_coreml.ops.dtypes import float_name
from coreproof.model.budget import afford

_COMPARED = ("less_equal", "less", "greater_equal", "greater", "equal", "not_equal")
"""What a node of mode 0, 1, ... asks, in MIL's words."""
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_MEMBER = len(_COMPARED)
_DEEPEST = 512
"""As many steps down are written out: no forest that was trained is as deep."""
_AVERAGE, _SUM, _MIN, _MAX = range(4)


@dataclass(frozen=True)
class Forest:
    """Trees as tables over all their nodes and leaves, a row each; a leaf leads to itself, whatever it is asked."""

    roots: Array
    features: Array
    """Of which column a node asks."""
    splits: Array
    modes: Array
    below: Array
    """Where it goes on if the answer is yes."""
    above: Array
    """... and if it is no."""
    tracks: Array
    """Whether a NaN is answered with yes."""
    members: Mapping[int, Array]
    """The set of each node that asks for membership."""
    weights: Array
    """What a leaf says, [rows, targets]."""
    says: Array
    """Of which targets it says something, [rows, targets]."""
    leaves: Array
    """Which rows are leaves."""


def _depth(ctx: Context, forest: Forest) -> int:
    """How many steps lead to the deepest leaf."""
    here, steps = np.unique(forest.roots), 0
    while True:
        asks = here[~forest.leaves[here]]
        if not len(asks):
            return steps
        # more steps than nodes: the way is a circle
        if steps > len(forest.leaves):
            raise ctx.refuse(f"a tree that comes back to node {asks[0]}", "a tree")
        if steps > _DEEPEST and len(forest.leaves) > 2 * _DEEPEST:
            raise ctx.refuse(f"a tree of more than {_DEEPEST} steps", f"at most {_DEEPEST}")
        here, steps = np.unique([forest.below[asks], forest.above[asks]]), steps + 1


def _walked(ctx: Context, x: Operand, forest: Forest) -> Operand:
    """The row of the leaf that each sample reaches in each tree, [samples, trees]."""
    # compared in float32, in which the splits were trained: rounded to float16, a sample beside a split goes the other way
    mb, depth = ctx.mb, _depth(ctx, forest)
    wide = mb.cast(x=x, dtype="fp32") if not ctx.is_float(x) or ctx.dtype == np.float16 else x
    # [samples, trees], all at their roots: what is made of the samples has as many rows as they have
    column = mb.slice_by_index(x=wide, begin=[0, 0], end=[0, 1], begin_mask=[True, False], end_mask=[True, False])
    # 0 or 1 whatever the column holds; an infinity times 0 would be NaN
    nothing = mb.cast(x=mb.not_equal(x=column, y=column), dtype="int32")
    at: Operand = mb.add(x=mb.mul(x=nothing, y=np.int32(0)), y=forest.roots.astype(np.int32)[None])
    for _ in range(depth):
        seen = mb.gather_along_axis(x=wide, indices=_looked_up(ctx, forest.features, at), axis=1)
        yes = _answer(ctx, forest, at, seen)
        # a leaf leads to itself: samples that have arrived wait for those in deeper trees
        at = mb.select(cond=yes, a=_looked_up(ctx, forest.below, at), b=_looked_up(ctx, forest.above, at))
    return at


def _looked_up(ctx: Context, table: Array, at: Operand) -> Operand:
    """What a table says of the nodes; a number alone where it says the same of all that are asked."""
    values = table.astype(np.int32) if table.dtype.kind in "iub" else table.astype(np.float32)
    return ctx.mb.gather(x=values, indices=at, axis=0)


def _answer(ctx: Context, forest: Forest, at: Operand, seen: Operand) -> Operand:
    """Whether each node says yes; NaN says no to everything but "not equal", unless the node tracks it."""
    mb = ctx.mb
    asking = ~forest.leaves
    modes = sorted(set(forest.modes[asking].tolist()))
    splits = _looked_up(ctx, forest.splits, at)
    mode = _looked_up(ctx, forest.modes, at) if len(modes) > 1 else None
    answer: Operand | None = None
    for wanted in modes:
        if wanted == _MEMBER:
            own = _is_member(ctx, forest, at, seen)
        elif 0 <= wanted < _MEMBER:
            own = getattr(mb, _COMPARED[wanted])(x=seen, y=splits)
        else:
            raise ctx.refuse(f"nodes of mode {wanted}", "modes 0 to 6")
        if answer is None:
            answer = own
        else:
            is_own = mb.equal(x=mode, y=np.int32(wanted))
            answer = mb.logical_or(
                x=mb.logical_and(x=is_own, y=own), y=mb.logical_and(x=mb.logical_not(x=is_own), y=answer)
            )
    assert answer is not None
    if forest.tracks[asking].any():
        # only a NaN differs from itself
        tracked = mb.equal(x=_looked_up(ctx, forest.tracks, at), y=np.int32(1))
        answer = mb.logical_or(x=answer, y=mb.logical_and(x=mb.not_equal(x=seen, y=seen), y=tracked))
    return answer


def _is_member(ctx: Context, forest: Forest, at: Operand, seen: Operand) -> Operand:
    mb = ctx.mb
    widest = max((len(values) for values in forest.members.values()), default=1)
    afford("the sets of the trees' nodes", (len(forest.below), widest), 4)
    table = np.full((len(forest.below), widest), np.nan, np.float32)  # NaN equals nothing
    for node, values in forest.members.items():
        table[node, : len(values)] = values
    # [samples, trees, 1] against the sets, [samples, trees, members]
    hit = mb.equal(x=mb.expand_dims(x=seen, axes=[2]), y=_looked_up(ctx, table, at))
    return mb.greater(x=mb.reduce_max(x=mb.cast(x=hit, dtype="int32"), axes=[2], keep_dims=False), y=np.int32(0))


def _aggregated(ctx: Context, forest: Forest, at: Operand, how: int) -> Operand:
    """[samples, targets]: the leaves that were reached, averaged over all trees, added up, or the smallest or largest of them."""
    mb = ctx.mb
    if how in (_AVERAGE, _SUM):
        total = mb.reduce_sum(x=_looked_up(ctx, forest.weights, at), axes=[1], keep_dims=False)
        return total if how == _SUM else mb.mul(x=total, y=np.float32(1 / len(forest.roots)))
    if how not in (_MIN, _MAX):
        raise ctx.refuse(f"aggregate_function {how}", "0 to 3")
    # what a leaf does not say must not win
    far = np.float32(np.inf if how == _MIN else -np.inf)
    said = _looked_up(ctx, np.where(forest.says, forest.weights, far), at)
    best = (mb.reduce_min if how == _MIN else mb.reduce_max)(x=said, axes=[1], keep_dims=False)
    return mb.select(cond=mb.equal(x=best, y=far), a=np.float32(0), b=best)


class Nodes(TypedDict, total=False):
    """The attributes in which the forerunners of TreeEnsemble list the nodes of all trees."""

    nodes_falsenodeids: Required[Sequence[int]]
    nodes_featureids: Required[Sequence[int]]
    nodes_modes: Required[Sequence[str]]
    nodes_nodeids: Required[Sequence[int]]
    nodes_treeids: Required[Sequence[int]]
    nodes_truenodeids: Required[Sequence[int]]
    nodes_hitrates: Sequence[float]
    nodes_hitrates_as_tensor: Array
    nodes_missing_value_tracks_true: Sequence[int]
    nodes_values: Sequence[float]
    nodes_values_as_tensor: Array


# what the operators say


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
    """The nodes come first in the tables, and the leaves behind them."""
    nodes, leaves = len(nodes_featureids), len(leaf_targetids)
    afford("what the leaves of the trees say", (nodes + leaves, n_targets), 4)
    modes = np.asarray(nodes_modes).reshape(-1).astype(np.int64)
    home = np.arange(nodes, nodes + leaves)

    def next_of(numbers: Sequence[int], is_leaf: Sequence[int]) -> Array:
        own = np.asarray(numbers) + nodes * np.asarray(is_leaf, bool)
        return np.concatenate([own, home])

    def with_leaves(values: Array | Sequence[int], fill: float = 0) -> Array:
        return np.concatenate([np.asarray(values).reshape(-1), np.full(leaves, fill)])

    weights = np.zeros((nodes + leaves, n_targets), np.float32)
    weights[home, list(leaf_targetids)] = np.asarray(leaf_weights).reshape(-1)
    says = np.zeros((nodes + leaves, n_targets), bool)
    says[home, list(leaf_targetids)] = True
    tracks = nodes_missing_value_tracks_true
    forest = Forest(
        roots=np.asarray(tree_roots, np.int64),
        features=with_leaves(nodes_featureids).astype(np.int64),
        splits=_split(with_leaves(np.asarray(nodes_splits, np.float64))),
        modes=with_leaves(modes).astype(np.int64),
        below=next_of(nodes_truenodeids, nodes_trueleafs),
        above=next_of(nodes_falsenodeids, nodes_falseleafs),
        tracks=with_leaves([0] * nodes if tracks is None else tracks).astype(np.int64),
        members=_members(modes, membership_values),
        weights=weights,
        says=says,
        leaves=np.arange(nodes + leaves) >= nodes,
    )
    total = _aggregated(ctx, forest, _walked(ctx, x, forest), aggregate_function)
    return _as_declared(ctx, transformed(ctx, total, post_transform))


@lowering("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(
    ctx: Context,
    x: Operand,
    *,
    aggregate_function: str = "SUM",
    base_values: Sequence[float] | None = None,
    base_values_as_tensor: Array | None = None,
    n_targets: int = 1,
    post_transform: str = "NONE",
    target_ids: Sequence[int],
    target_nodeids: Sequence[int],
    target_treeids: Sequence[int],
    target_weights: Sequence[float] | None = None,
    target_weights_as_tensor: Array | None = None,
    **nodes: Unpack[Nodes],
) -> Result:
    """The leaves' weights by target, and the base values on top."""
    weights = target_weights if target_weights_as_tensor is None else target_weights_as_tensor
    said = list(zip(target_treeids, target_nodeids, target_ids, np.asarray(weights).reshape(-1), strict=True))
    forest = _numbered_by_tree(ctx, said, n_targets, **nodes)
    how = ("AVERAGE", "SUM", "MIN", "MAX").index(aggregate_function)
    total = _aggregated(ctx, forest, _walked(ctx, x, forest), how)
    based = _plus_base(ctx, total, n_targets, base_values, base_values_as_tensor)
    return _as_declared(ctx, transformed(ctx, based, post_transform))


@lowering("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(
    ctx: Context,
    x: Operand,
    *,
    base_values: Sequence[float] | None = None,
    base_values_as_tensor: Array | None = None,
    class_ids: Sequence[int],
    class_nodeids: Sequence[int],
    class_treeids: Sequence[int],
    class_weights: Sequence[float] | None = None,
    class_weights_as_tensor: Array | None = None,
    classlabels_int64s: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    post_transform: str = "NONE",
    **nodes: Unpack[Nodes],
) -> tuple[Operand, Operand]:
    """The leaves' weights by class; of two classes the leaves may speak of one alone.

    What two classes make of one sum follows ONNX Runtime, since the standard is silent: weights of which none is negative are
    shares, of which the other class has the rest and half decides; otherwise the sign decides.
    """
    weights = np.asarray(class_weights if class_weights_as_tensor is None else class_weights_as_tensor).reshape(-1)
    labels = classlabels_strings or classlabels_int64s or ()
    spoken = sorted(set(class_ids))
    is_one = len(labels) == 2 and len(spoken) == 1
    ids, targets = ([0] * len(class_ids), 1) if is_one else (class_ids, len(labels))
    said = list(zip(class_treeids, class_nodeids, ids, weights, strict=True))
    forest = _numbered_by_tree(ctx, said, targets, **nodes)
    sums = _plus_base(
        ctx, _aggregated(ctx, forest, _walked(ctx, x, forest), _SUM), targets, base_values, base_values_as_tensor
    )
    if not is_one:
        return labelled(ctx, labels, sums, _as_declared(ctx, transformed(ctx, sums, post_transform)))
    shares = bool((weights >= 0).all())
    second = ctx.mb.cast(x=ctx.mb.greater(x=sums, y=np.float32(0.5 if shares else 0)), dtype="int32")
    if spoken == [0]:
        scores = one_for_two(ctx, sums, post_transform, rest=shares)
    else:
        # the leaves speak of the second class alone: the first has 0
        both = ctx.mb.concat(values=[ctx.mb.mul(x=sums, y=np.float32(0)), sums], axis=1)
        scores = transformed(ctx, both, post_transform)
    return labelled(ctx, labels, second, _as_declared(ctx, scores), is_place=True)


def _plus_base(
    ctx: Context, total: Operand, targets: int, values: Sequence[float] | None, tensor: Array | None
) -> Operand:
    """The sums on top of the base values, of which there is one a target."""
    given = values if tensor is None else tensor
    if given is None:
        return total
    base = np.asarray(given, np.float32).reshape(1, -1)
    if base.size != targets:
        raise ctx.refuse(
            f"{base.size} base values for {targets} sums", "one for each: ONNX Runtime answers at random here"
        )
    return ctx.mb.add(x=total, y=base)


def _as_declared(ctx: Context, x: Operand) -> Operand:
    """In the program's own width: the trees are walked in float32."""
    return ctx.mb.cast(x=x, dtype=float_name(ctx)) if ctx.dtype == np.float16 else x


def _numbered_by_tree(
    ctx: Context,
    said: Sequence[tuple[int, int, int, float]],
    targets: int,
    **nodes: Unpack[Nodes],
) -> Forest:
    """The forest whose nodes are numbered in each tree; ``said``: tree, node, target and weight of what leaves say.

    A tree begins with the first of its nodes that is listed.
    """
    treeids, nodeids = nodes["nodes_treeids"], nodes["nodes_nodeids"]
    count = len(nodeids)
    places = {key: place for place, key in enumerate(zip(treeids, nodeids, strict=True))}
    afford("what the leaves of the trees say", (count, targets), 4)
    home = np.arange(count)
    names = [str(mode) for mode in nodes["nodes_modes"]]
    unknown = sorted(set(names) - {*_MODES, "LEAF"})
    if unknown:
        raise ctx.refuse(f"nodes of mode {', '.join(unknown)}", ", ".join((*_MODES, "LEAF")))
    is_leaf = np.array([name == "LEAF" for name in names])

    def next_of(numbers: Sequence[int]) -> Array:
        keys = zip(treeids, numbers, is_leaf, home, strict=True)
        lost = [
            (t, n)
            for t, n, leaf, _ in zip(treeids, numbers, is_leaf, home, strict=True)
            if not leaf and (t, n) not in places
        ]
        if lost:
            raise ctx.refuse(f"a way to node {lost[0][1]} of tree {lost[0][0]}, which is not listed", "nodes that are")
        return np.array([own if leaf else places[tree, number] for tree, number, leaf, own in keys])

    weights, says = np.zeros((count, targets), np.float32), np.zeros((count, targets), bool)
    for tree, node, target, weight in said:
        if (tree, node) not in places or not 0 <= target < targets:
            raise ctx.refuse(
                f"a weight of node {node} of tree {tree} for target {target}", "nodes and targets that are there"
            )
        weights[places[tree, node], target] += weight
        says[places[tree, node], target] = True
    first: dict[int, int] = {}
    for place, tree in enumerate(treeids):
        first.setdefault(tree, place)
    modes = np.array([0 if name == "LEAF" else _MODES.index(name) for name in names])
    values = np.asarray(nodes.get("nodes_values_as_tensor", nodes.get("nodes_values", np.zeros(count))), np.float64)
    tracks = nodes.get("nodes_missing_value_tracks_true")
    return Forest(
        roots=np.array(list(first.values())),
        features=np.where(is_leaf, 0, np.asarray(nodes["nodes_featureids"])),
        splits=_split(values.reshape(-1)),
        modes=modes,
        below=next_of(nodes["nodes_truenodeids"]),
        above=next_of(nodes["nodes_falsenodeids"]),
        tracks=np.zeros(count, np.int64) if tracks is None else np.asarray(tracks, np.int64),
        members={},
        weights=weights,
        says=says,
        leaves=is_leaf,
    )


def _split(splits: Array) -> Array:
    """The splits as float32. They have the samples' own dtype: rounded alike, what is equal stays equal, and in order."""
    return np.asarray(splits, np.float32)


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
