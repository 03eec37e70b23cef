"""The nodes of a tree ensemble as arrays: every comparison is one of "at most", and every leaf leads to itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from coreproof.model.budget import afford
from coreproof.model.coreml.proto import Model_pb2

Node = Model_pb2.TreeEnsembleParameters.TreeNode
_MOST_VALUES = 2**31
"""Dimensions of a prediction: more have no array."""


@dataclass(frozen=True)
class TreeTable:
    """``below`` and ``above`` are where a node leads when its feature is at most its limit, and when not; ``missing`` when NaN.

    ``roots`` are the nodes at which the trees begin, ``depth`` the steps from there to the farthest leaf. ``leaf`` is which leaf
    a node is; a leaf adds its ``amounts`` [leaves, most] at its ``places``.
    """

    features: np.ndarray
    limits: np.ndarray
    below: np.ndarray
    above: np.ndarray
    missing: np.ndarray
    roots: np.ndarray
    leaf: np.ndarray
    places: np.ndarray
    amounts: np.ndarray
    depth: int


def tree_problems(ensemble: Model_pb2.TreeEnsembleParameters, fed: int | None) -> Iterator[str]:
    """What makes no sense in an ensemble; ``fed``: how many numbers it is fed, where that is known."""
    count, base = int(ensemble.numPredictionDimensions), len(ensemble.basePredictionValue)
    if not 0 < count < _MOST_VALUES:
        yield f"its prediction has {count} dimensions"
    elif base not in (0, count):
        yield f"its prediction has {count} dimensions, and its base prediction {base}"
    known: dict[tuple[int, int], Node] = {}
    for node in ensemble.nodes:
        if (node.treeId, node.nodeId) in known:
            yield f"{_named(node)} is there twice"
        known[node.treeId, node.nodeId] = node
    parents: dict[tuple[int, int], Node] = {}
    for node in known.values():
        if node.nodeBehavior == Node.LeafNode:
            yield from (
                f"{_named(node)} adds to dimension {e.evaluationIndex} of {count}"
                for e in node.evaluationInfo
                if e.evaluationIndex >= count
            )
            continue
        yield from _branch_problems(node, fed)
        for child in (node.trueChildNodeId, node.falseChildNodeId):
            key = (node.treeId, child)
            if key not in known:
                yield f"{_named(node)} leads to node {child}, which there is not"
            elif key in parents:
                yield f"node {child} of tree {node.treeId} is reached from nodes {parents[key].nodeId} and {node.nodeId}"
            else:
                parents[key] = node
    begun: set[int] = set()
    for tree, number in known:
        if (tree, number) not in parents:
            if tree in begun:
                yield f"tree {tree} begins at several nodes, of which one is {number}"
            begun.add(tree)
    # each node has one parent at most: what is not reached from where the trees begin lies in a circle
    for tree in sorted({key[0] for key in known.keys() - _reached(known, parents)}):
        yield f"nodes of tree {tree} lead in a circle"


def _reached(known: dict[tuple[int, int], Node], parents: dict[tuple[int, int], Node]) -> set[tuple[int, int]]:
    front, seen = [key for key in known if key not in parents], set[tuple[int, int]]()
    while front:
        key = front.pop()
        seen.add(key)
        node = known[key]
        if node.nodeBehavior != Node.LeafNode:
            children = {(node.treeId, node.trueChildNodeId), (node.treeId, node.falseChildNodeId)}
            front.extend(child for child in children if parents.get(child) is node)
    return seen


def _branch_problems(node: Node, fed: int | None) -> Iterator[str]:
    if not 0 <= node.nodeBehavior < Node.LeafNode:
        yield f"{_named(node)} behaves in a way that is not known ({node.nodeBehavior})"
    if np.isnan(node.branchFeatureValue):
        yield f"{_named(node)} compares with NaN"
    if fed is not None and node.branchFeatureIndex >= fed:
        yield f"{_named(node)} reads feature {node.branchFeatureIndex} of {fed}"


def _named(node: Node) -> str:
    return f"node {node.nodeId} of tree {node.treeId}"


def tree_table(ensemble: Model_pb2.TreeEnsembleParameters) -> TreeTable:
    """The table of an ensemble without problems."""
    nodes = list(ensemble.nodes)
    place = {(node.treeId, node.nodeId): index for index, node in enumerate(nodes)}
    # a test for equality takes two comparisons, and so a second place
    equal = [i for i, n in enumerate(nodes) if n.nodeBehavior in (Node.BranchOnValueEqual, Node.BranchOnValueNotEqual)]
    second = {index: len(nodes) + k for k, index in enumerate(equal)}
    total = len(nodes) + len(second)
    features, limits = np.zeros(total, np.int64), np.full(total, np.nan)
    below, above, missing = (np.arange(total, dtype=np.int64) for _ in range(3))
    children: set[int] = set()
    for index, node in enumerate(nodes):
        if node.nodeBehavior == Node.LeafNode:
            continue
        yes, no = place[node.treeId, node.trueChildNodeId], place[node.treeId, node.falseChildNodeId]
        # a root is a node that no other leads to: the file does not mark it
        children |= {yes, no}
        features[index], limits[index] = node.branchFeatureIndex, node.branchFeatureValue
        # before yes and no change places below: a missing value follows the file's own true child
        missing[index] = yes if node.missingValueTracksTrueChild else no
        just_under = _just_under(node.branchFeatureValue)
        if node.nodeBehavior in (Node.BranchOnValueLessThan, Node.BranchOnValueGreaterThanEqual):
            limits[index] = just_under
        if node.nodeBehavior in (Node.BranchOnValueGreaterThan, Node.BranchOnValueGreaterThanEqual):
            yes, no = no, yes
        if index in second:
            if node.nodeBehavior == Node.BranchOnValueNotEqual:
                yes, no = no, yes
            # at most the value and not at most what is just under it: equal
            extra = second[index]
            features[extra], limits[extra] = node.branchFeatureIndex, just_under
            below[extra], above[extra], missing[extra] = no, yes, yes
            yes = extra
        below[index], above[index] = yes, no
    roots = np.array([i for i in range(len(nodes)) if i not in children], np.int64)
    leaf, places, amounts = _leaves(nodes, total)
    depth = _depth(roots, below, above)
    return TreeTable(features, limits, below, above, missing, roots, leaf, places, amounts, depth)


def _just_under(value: float) -> float:
    """The next smaller number, so that "less than" becomes "at most"; nothing is less than minus infinity, nor at most NaN."""
    return float("nan") if value == -np.inf else float(np.nextafter(value, -np.inf))


def _leaves(nodes: list[Node], total: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = [index for index, node in enumerate(nodes) if node.nodeBehavior == Node.LeafNode]
    most = max([1, *(len(nodes[index].evaluationInfo) for index in ends)])
    # one leaf with many values makes a row as long for each of the others
    afford("what the leaves of the trees add", [len(ends), most], 16)
    leaf = np.zeros(total, np.int64)
    places, amounts = np.zeros((len(ends), most), np.int64), np.zeros((len(ends), most))
    for row, index in enumerate(ends):
        leaf[index] = row
        for column, added in enumerate(nodes[index].evaluationInfo):
            places[row, column], amounts[row, column] = added.evaluationIndex, added.evaluationValue
    return leaf, places, amounts


def _depth(roots: np.ndarray, below: np.ndarray, above: np.ndarray) -> int:
    """Steps from the roots until all paths stand still."""
    front, depth = roots, 0
    while True:
        # a leaf leads to itself, and so takes no step
        front = front[below[front] != front]
        if not len(front):
            return depth
        front = np.unique(np.concatenate([below[front], above[front]]))
        depth += 1
