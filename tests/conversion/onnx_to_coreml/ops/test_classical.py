"""ai.onnx.ml: trees against a walk down each of them, and operators that pick and cut against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from coreproof.model.onnx.model import OnnxModel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 4)).astype(np.float32)


def model_of(operator: str, version: int, inputs: dict[str, np.ndarray], **attributes: Any) -> OnnxModel:
    node = onnx.helper.make_node(operator, [*inputs], ["y"], domain="ai.onnx.ml", **attributes)
    described = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs.items()
    ]
    graph = onnx.helper.make_graph([node], "one", described, [onnx.helper.make_tensor_value_info("y", 1, None)])
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.onnx.ml", version)]
    return OnnxModel(ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)), name=operator)


def run(model: OnnxModel, **fed: np.ndarray) -> np.ndarray:
    with cp.session(cp.convert(model, "mlprogram", precision="fp32", target="iOS17")) as running:
        return np.asarray(next(iter(running.run(fed).values())))


def test_columns_are_picked_by_their_numbers() -> None:
    places = np.array([3, 0, 0])
    np.testing.assert_array_equal(
        run(model_of("ArrayFeatureExtractor", 1, {"x": X, "k": places}), x=X, k=places), X[:, places]
    )
    row = X[0]
    np.testing.assert_array_equal(
        run(model_of("ArrayFeatureExtractor", 1, {"x": row, "k": places}), x=row, k=places), row[None, places]
    )


@pytest.mark.parametrize("threshold", [0.0, 0.5, -1.0])
def test_what_is_above_the_threshold_becomes_one(threshold: float) -> None:
    x = np.array([[threshold, threshold + 0.1, -9, np.inf, np.nan]], np.float32)
    got = run(model_of("Binarizer", 1, {"x": x}, threshold=threshold), x=x)
    np.testing.assert_array_equal(got, (x > threshold).astype(np.float32))


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


@pytest.mark.parametrize("how", [0, 1, 2, 3])
@pytest.mark.parametrize("modes", [(0,), (0, 1, 2, 3, 4, 5), (0, 6)])
def test_trees_end_where_a_walk_down_them_ends(how: int, modes: tuple[int, ...]) -> None:
    forest = Forest(5, 3, 3, modes)
    x = X.copy()
    x[0, 0] = np.nan
    x[1, 1] = np.inf
    said = {"n_targets": 3, "aggregate_function": how, **forest.attributes()}
    got = run(model_of("TreeEnsemble", 5, {"x": x}, **said), x=x)
    np.testing.assert_allclose(got, forest.predict(x, 3, how), rtol=1e-5, atol=1e-6)


def test_a_tree_that_comes_back_to_itself_is_refused() -> None:
    said = Forest(1, 1, 1, (0,)).attributes()
    said |= {"nodes_truenodeids": [0], "nodes_trueleafs": [0]}
    with pytest.raises(ConversionError, match="comes back to node 0"):
        cp.convert(model_of("TreeEnsemble", 5, {"x": X}, **said), "mlprogram")
