"""ai.onnx.ml's tree ensembles, against a walk down each tree and against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.conversion.onnx_to_coreml.one_ml_node import check_ml, ml_model, run_ml

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 4)).astype(np.float32)


class Forest:
    """Random trees, as attributes of the operator and as something that is walked down."""

    def __init__(self, count: int, depth: int, targets: int, modes: tuple[int, ...]) -> None:
        self.modes, self.splits, self.features, self.tracks = [], [], [], []
        self.children: list[dict[bool, tuple[bool, int]]] = []
        self.weights, self.targets, self.members = [], [], []
        self.sets: dict[int, list[float]] = {}
        self.roots = []
        for _ in range(count):
            self.roots.append(self.node(depth, targets, modes)[1])

    def node(self, depth: int, targets: int, modes: tuple[int, ...]) -> tuple[bool, int]:
        if depth == 0 or (len(self.roots) % 3 == 1 and depth < 2):
            self.weights.append(float(RNG.normal()))
            self.targets.append(int(RNG.integers(targets)))
            return True, len(self.weights) - 1
        own = len(self.modes)
        self.modes.append(int(RNG.choice(modes)))
        self.features.append(int(RNG.integers(X.shape[1])))
        self.splits.append(
            float(np.float32(RNG.normal() if RNG.random() < 0.7 else X[own % len(X), self.features[-1]]))
        )
        self.tracks.append(int(RNG.integers(2)))
        self.children.append({})
        if self.modes[-1] == 6:
            self.sets[own] = [float(v) for v in X[RNG.integers(len(X), size=3), self.features[-1]]]
        self.children[own] = {side: self.node(depth - 1, targets, modes) for side in (True, False)}
        return False, own

    def attributes(self) -> dict[str, Any]:
        def told(side: bool, part: int) -> list[int]:
            return [int(c[side][part]) for c in self.children]

        members = [v for at in sorted(self.sets) for v in (*self.sets[at], np.nan)]
        tensor = onnx.numpy_helper.from_array
        return {
            "nodes_modes": tensor(np.array(self.modes, np.uint8)),
            "nodes_splits": tensor(np.array(self.splits, np.float32)),
            "nodes_featureids": self.features,
            "nodes_truenodeids": told(True, 1),
            "nodes_trueleafs": told(True, 0),
            "nodes_falsenodeids": told(False, 1),
            "nodes_falseleafs": told(False, 0),
            "nodes_missing_value_tracks_true": self.tracks,
            "leaf_weights": tensor(np.array(self.weights, np.float32)),
            "leaf_targetids": self.targets,
            "tree_roots": self.roots,
            **({"membership_values": tensor(np.array(members, np.float32))} if members else {}),
        }

    def leaf(self, root: int, row: np.ndarray) -> int:
        at = root
        while True:
            value, split = row[self.features[at]], np.float32(self.splits[at])
            yes = {
                0: value <= split, 1: value < split, 2: value >= split, 3: value > split, 4: value == split,
                5: value != split, 6: value in np.array(self.sets.get(at, []), np.float32),
            }[self.modes[at]]  # fmt: skip
            if np.isnan(value) and self.tracks[at]:
                yes = True
            is_leaf, child = self.children[at][bool(yes)]
            if is_leaf:
                return child
            at = child

    def predict(self, x: np.ndarray, targets: int, how: int) -> np.ndarray:
        made = np.zeros((len(x), targets))
        for i, row in enumerate(x):
            leaves = [self.leaf(root, row) for root in self.roots]
            for target in range(targets):
                own = [self.weights[leaf] for leaf in leaves if self.targets[leaf] == target]
                total = {0: sum(own) / len(self.roots), 1: sum(own), 2: min(own, default=0), 3: max(own, default=0)}
                made[i, target] = total[how]
        return made


@pytest.mark.sweep(2)
@pytest.mark.parametrize("how", [0, 1, 2, 3])
@pytest.mark.parametrize("modes", [(0,), (0, 1, 2, 3, 4, 5), (0, 6)])
def test_trees_end_where_a_walk_down_them_ends(how: int, modes: tuple[int, ...]) -> None:
    forest = Forest(5, 3, 3, modes)
    x = X.copy()
    x[0, 0] = np.nan
    x[1, 1] = np.inf
    said = {"n_targets": 3, "aggregate_function": how, **forest.attributes()}
    got = run_ml(ml_model("TreeEnsemble", 5, {"x": x}, **said), x=x)[0]
    np.testing.assert_allclose(got, forest.predict(x, 3, how), rtol=1e-5, atol=1e-6)


def test_a_tree_that_comes_back_to_itself_is_refused() -> None:
    said = Forest(1, 1, 1, (0,)).attributes()
    said |= {"nodes_truenodeids": [0], "nodes_trueleafs": [0]}
    with pytest.raises(ConversionError, match="comes back to node 0"):
        cp.convert(ml_model("TreeEnsemble", 5, {"x": X}, **said), "mlprogram")


# the forerunners, whose trees number their own nodes, leaves among them

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
STRANGE = X.copy()
STRANGE[0, 1], STRANGE[1, 2] = np.nan, np.inf


def old_forest(modes: tuple[str, ...]) -> tuple[dict[str, list[Any]], list[tuple[int, int]]]:
    """The attributes of five random trees, the third of them a leaf alone, and (tree, node) of all leaves."""
    names = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    said: dict[str, list[Any]] = {f"nodes_{name}": [] for name in (*names, "missing_value_tracks_true")}
    leaves = []
    for tree in range(5):
        rows: list[tuple[Any, ...]] = []

        def grow(depth: int, rows: list[tuple[Any, ...]] = rows) -> int:
            own = len(rows)
            rows.append(("LEAF", 0, 0.0, 0, 0, 0))
            if depth and (not own or RNG.random() > 0.2):
                yes, no = grow(depth - 1), grow(depth - 1)
                column = int(RNG.integers(4))
                split = float(RNG.normal()) if RNG.random() < 0.7 else float(X[RNG.integers(2, 9), column])
                rows[own] = (str(RNG.choice(modes)), column, split, yes, no, int(RNG.integers(2)))
            return own

        grow(0 if tree == 2 else 3)
        leaves += [(tree, place) for place, row in enumerate(rows) if row[0] == "LEAF"]
        for place, row in enumerate(rows):
            for name, value in zip(said, (tree, place, *row), strict=True):
                said[name].append(value)
    return said, leaves


@pytest.mark.sweep(1)
@pytest.mark.parametrize("modes", [MODES[:1], MODES])
@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regressors_add_up_what_their_leaves_say(modes: tuple[str, ...], how: str) -> None:
    nodes, leaves = old_forest(modes)
    for targets, base in ((1, {"base_values": [0.5]}), (3, {})):
        check_ml(
            "TreeEnsembleRegressor", 1, STRANGE, aggregate_function=how, n_targets=targets,
            target_treeids=[tree for tree, _ in leaves], target_nodeids=[node for _, node in leaves],
            target_ids=RNG.integers(0, targets, len(leaves)).tolist(), target_weights=RNG.normal(size=len(leaves)).tolist(),
            **nodes, **base,
        )  # fmt: skip


@pytest.mark.sweep(3)
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [5, 3, 8, 1]])
def test_of_several_classes_the_highest_sum_wins(transform: str, labels: list[int]) -> None:
    nodes, leaves = old_forest(MODES[:1])
    said = [(tree, node, number) for tree, node in leaves for number in range(len(labels))]
    check_ml(
        "TreeEnsembleClassifier", 1, X, (7, 1), classlabels_int64s=labels, post_transform=transform,
        class_treeids=[tree for tree, _, _ in said], class_nodeids=[node for _, node, _ in said],
        class_ids=[number for *_, number in said], class_weights=RNG.random(size=len(said)).tolist(), **nodes,
    )  # fmt: skip


@pytest.mark.sweep(2)
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("speaks", [0, 1])
@pytest.mark.parametrize("lowest", [0.0, -0.12])
def test_of_two_classes_one_sum_decides(transform: str, speaks: int, lowest: float) -> None:
    nodes, leaves = old_forest(MODES[:1])
    check_ml(
        "TreeEnsembleClassifier", 1, X, (7, 1), classlabels_int64s=[4, 9], post_transform=transform,
        class_treeids=[tree for tree, _ in leaves], class_nodeids=[node for _, node in leaves],
        class_ids=[speaks] * len(leaves), class_weights=(RNG.random(size=len(leaves)) / 4 + lowest).tolist(), **nodes,
    )  # fmt: skip


@pytest.mark.sweep(2)
@pytest.mark.parametrize("mode", MODES)
def test_samples_and_splits_in_float64_are_rounded_alike(mode: str) -> None:
    x = np.array([[1.2], [0.1], [7.0]])  # neither 1.2 nor 0.1 is a float32 number
    tensor = onnx.numpy_helper.from_array
    for split in (1.2, 0.1):
        said: dict[str, Any] = {
            "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
            "nodes_modes": [mode, "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
            "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "n_targets": 1,
            "nodes_values_as_tensor": tensor(np.array([split, 0.0, 0.0])),
            "target_weights_as_tensor": tensor(np.array([1.0, 0.0])),
        }  # fmt: skip
        check_ml("TreeEnsembleRegressor", 3, x, **said)


def test_a_way_to_a_node_that_is_not_listed_is_refused_with_its_number() -> None:
    nodes, leaves = old_forest(MODES[:1])
    nodes["nodes_truenodeids"][0] = 77
    said = {
        "target_treeids": [leaves[0][0]],
        "target_nodeids": [leaves[0][1]],
        "target_ids": [0],
        "target_weights": [1.0],
    }
    with pytest.raises(ConversionError, match="node 77 of tree 0"):
        run_ml(ml_model("TreeEnsembleRegressor", 1, {"x": X}, n_targets=1, **nodes, **said), x=X)
