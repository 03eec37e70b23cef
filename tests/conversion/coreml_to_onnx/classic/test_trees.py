"""Tree ensembles against a plain reading of the proto in every way of comparing, and against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.runtime.open import session
from tests.build import classic
from tests.conversion.coreml_to_onnx.classic.sklearn_models import (
    boosted_classifier,
    forest_classifier,
    forest_regressor,
)

BEHAVIOURS: dict[str, Any] = {
    "BranchOnValueLessThanEqual": lambda x, v: x <= v,
    "BranchOnValueLessThan": lambda x, v: x < v,
    "BranchOnValueGreaterThanEqual": lambda x, v: x >= v,
    "BranchOnValueGreaterThan": lambda x, v: x > v,
    "BranchOnValueEqual": lambda x, v: x == v,
    "BranchOnValueNotEqual": lambda x, v: x != v,
}
VALUES = [-np.inf, -1.5, -5e-324, -0.0, 0.0, 5e-324, 0.1, np.nextafter(0.1, 1), 1.0, 1e300, np.inf]


def random_ensemble(seed: int, dimensions: int, features: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    nodes: list[dict[str, Any]] = []
    for tree in range(int(rng.integers(1, 6))):
        numbers = iter(rng.permutation(200).tolist())

        def grow(depth: int, tree: int = tree, numbers: Any = numbers) -> int:
            number = next(numbers)
            if depth == 0 or rng.random() < 0.2:
                added = [
                    {"evaluationIndex": int(rng.integers(dimensions)), "evaluationValue": float(rng.normal())}
                    for _ in range(int(rng.integers(0, 3)))
                ]
                nodes.append({"treeId": tree, "nodeId": number, "nodeBehavior": "LeafNode", "evaluationInfo": added})
                return number
            children = grow(depth - 1), grow(depth - 1)
            nodes.append({
                "treeId": tree, "nodeId": number, "nodeBehavior": str(rng.choice(list(BEHAVIOURS))),
                "branchFeatureIndex": int(rng.integers(features)), "branchFeatureValue": float(rng.choice(VALUES)),
                "trueChildNodeId": children[0], "falseChildNodeId": children[1],
                "missingValueTracksTrueChild": bool(rng.random() < 0.5),
            })  # fmt: skip
            return number

        grow(int(rng.integers(0, 6)))
    base = rng.normal(size=dimensions).tolist()
    return {"nodes": nodes, "numPredictionDimensions": dimensions, "basePredictionValue": base}


def evaluated(ensemble: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """TreeEnsemble.proto, word for word."""
    result = np.array(ensemble["basePredictionValue"])
    nodes = {(n["treeId"], n["nodeId"]): n for n in ensemble["nodes"]}
    children = {(t, n[c]) for (t, _), n in nodes.items() for c in ("trueChildNodeId", "falseChildNodeId") if c in n}
    for root in sorted(set(nodes) - children):
        node = nodes[root]
        while node["nodeBehavior"] != "LeafNode":
            value, limit = x[node["branchFeatureIndex"]], node["branchFeatureValue"]
            truth = (
                node["missingValueTracksTrueChild"]
                if np.isnan(value)
                else BEHAVIOURS[node["nodeBehavior"]](value, limit)
            )
            node = nodes[root[0], node["trueChildNodeId" if truth else "falseChildNodeId"]]
        for added in node["evaluationInfo"]:
            result[added["evaluationIndex"]] += added["evaluationValue"]
    return result


@pytest.mark.sweep(5)
@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("seed", range(40))
def test_random_trees_give_what_the_proto_says(seed: int, dimensions: int) -> None:
    ensemble = random_ensemble(seed, dimensions)
    target = {"y": "double" if dimensions == 1 else [dimensions]}
    rng = np.random.default_rng(seed)
    with session(classic("treeEnsembleRegressor", {"x": [4]}, target, treeEnsemble=ensemble)) as running:
        for _ in range(12):
            x = rng.choice([*VALUES, np.nan], 4)
            np.testing.assert_allclose(np.atleast_1d(running.run({"x": x})["y"]), evaluated(ensemble, x), rtol=1e-14)


def stump(behaviour: str, limit: float, *, missing: bool = False) -> CoreMLModel:
    nodes = [
        {"nodeId": 0, "nodeBehavior": behaviour, "branchFeatureIndex": 0, "branchFeatureValue": limit,
         "trueChildNodeId": 1, "falseChildNodeId": 2, "missingValueTracksTrueChild": missing},
        {"nodeId": 1, "nodeBehavior": "LeafNode", "evaluationInfo": [{"evaluationValue": 1.0}]},
        {"nodeId": 2, "nodeBehavior": "LeafNode", "evaluationInfo": [{"evaluationValue": -1.0}]},
    ]  # fmt: skip
    return classic("treeEnsembleRegressor", {"x": [1]}, {"y": "double"},
                   treeEnsemble={"nodes": nodes, "numPredictionDimensions": 1})  # fmt: skip


@pytest.mark.sweep(4)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("limit", VALUES)
def test_each_way_of_comparing_at_its_edge(behaviour: str, limit: float) -> None:
    with session(stump(behaviour, limit)) as running:
        for x in VALUES:
            assert running.run({"x": [x]})["y"] == (1.0 if BEHAVIOURS[behaviour](x, limit) else -1.0), x


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("missing", [True, False])
def test_a_missing_value_goes_where_the_node_says(behaviour: str, missing: bool) -> None:
    with session(stump(behaviour, 0.5, missing=missing)) as running:
        assert running.run({"x": [np.nan]})["y"] == (1.0 if missing else -1.0)


def test_an_optional_input_that_is_not_fed_is_missing() -> None:
    model = stump("BranchOnValueLessThan", 0.5, missing=True)
    del model.spec.description.input[:]
    made = classic("treeEnsembleRegressor", {"a": "double"}, {"y": "double"}, optional=["a"])
    made.spec.treeEnsembleRegressor.CopyFrom(model.spec.treeEnsembleRegressor)
    with session(made) as running:
        assert [running.run(feed)["y"] for feed in ({}, {"a": 0.7}, {"a": 0.2})] == [1.0, -1.0, 1.0]


@pytest.mark.sweep(1)
@pytest.mark.parametrize("seed", range(8))
def test_forests_give_what_scikit_learn_predicts(seed: int) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(seed)
    # trees of scikit-learn compare float32 features
    x = rng.normal(size=(120, 5)).astype(np.float32).astype(np.float64)
    classes = 2 + seed % 3
    regressor = ensemble.RandomForestRegressor(10, max_depth=6, random_state=seed).fit(x, x[:, 0] * x[:, 1])
    classifier = ensemble.RandomForestClassifier(9, max_depth=5, random_state=seed)
    classifier.fit(x, np.digitize(x[:, 0] + x[:, 2], np.linspace(-0.5, 0.5, classes - 1)))
    with session(forest_regressor(regressor)) as running:
        for row in x[:10]:
            assert running.run({"x": row})["y"] == pytest.approx(regressor.predict(row[None])[0], rel=1e-9)
    with session(forest_classifier(classifier)) as running:
        for row in x[:10]:
            got = running.run({"x": row})
            np.testing.assert_allclose(
                list(got["chances"].values()), classifier.predict_proba(row[None])[0], rtol=1e-9, atol=1e-12
            )
            assert got["label"] == classifier.predict(row[None])[0]


@pytest.mark.sweep(1)
@pytest.mark.parametrize("classes", [2, 4])
def test_boosted_trees_give_what_scikit_learn_predicts(classes: int) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(150, 4)).astype(np.float32).astype(np.float64)
    y = np.digitize(x[:, 0] - x[:, 1], np.linspace(-0.7, 0.7, classes - 1))
    model = ensemble.GradientBoostingClassifier(n_estimators=8, init="zero", random_state=0).fit(x, y)
    with session(boosted_classifier(model, [0.0] * (1 if classes == 2 else classes))) as running:
        for row in x[:12]:
            got = running.run({"x": row})
            np.testing.assert_allclose(list(got["chances"].values()), model.predict_proba(row[None])[0], rtol=1e-9)
            assert got["label"] == model.predict(row[None])[0]


@pytest.mark.parametrize(
    ("transform", "chances"),
    [
        ("NoTransform", [0.3, 0.7, -0.2]),
        ("Classification_SoftMax", (np.exp([0.3, 0.7, -0.2]) / np.exp([0.3, 0.7, -0.2]).sum()).tolist()),
        ("Regression_Logistic", (1 / (1 + np.exp([-0.3, -0.7, 0.2]))).tolist()),
        (
            "Classification_SoftMaxWithZeroClassReference",
            (np.exp([0, 0.7, -0.2]) / np.exp([0, 0.7, -0.2]).sum()).tolist(),
        ),
    ],
)
def test_each_transform_of_several_sums(transform: str, chances: list[float]) -> None:
    leaf = {"nodeBehavior": "LeafNode", "evaluationInfo": [
        {"evaluationIndex": 0, "evaluationValue": 0.3}, {"evaluationIndex": 1, "evaluationValue": 0.7},
        {"evaluationIndex": 2, "evaluationValue": -0.2}]}  # fmt: skip
    model = classic("treeEnsembleClassifier", {"x": [1]}, {"label": "string", "chances": "dictionary string"},
                    treeEnsemble={"nodes": [leaf], "numPredictionDimensions": 3}, postEvaluationTransform=transform,
                    stringClassLabels={"vector": ["a", "b", "c"]})  # fmt: skip
    with session(model) as running:
        got = running.run({"x": [0.0]})
    np.testing.assert_allclose([got["chances"][name] for name in "abc"], chances, rtol=1e-12)
    assert got["label"] == "b"


@pytest.mark.parametrize(("value", "label"), [(0.5, 7), (0.75, 9), (0.25, 7)])
def test_two_classes_of_one_sum_meet_at_a_half_which_is_the_firsts(value: float, label: int) -> None:
    leaf = {"nodeBehavior": "LeafNode", "evaluationInfo": [{"evaluationValue": value}]}
    model = classic("treeEnsembleClassifier", {"x": [1]}, {"label": "int64", "chances": "dictionary int64"},
                    treeEnsemble={"nodes": [leaf], "numPredictionDimensions": 1},
                    int64ClassLabels={"vector": [7, 9]})  # fmt: skip
    with session(model) as running:
        assert running.run({"x": [0.0]}) == {"label": label, "chances": {7: 1 - value, 9: value}}


def test_an_ensemble_without_trees_gives_its_base() -> None:
    model = classic("treeEnsembleRegressor", {"x": [1]}, {"y": "double"},
                    treeEnsemble={"numPredictionDimensions": 1, "basePredictionValue": [4.5]})  # fmt: skip
    with session(model) as running:
        assert running.run({"x": [0.0]}) == {"y": 4.5}


@pytest.mark.thorough
def test_a_tree_of_twenty_thousand_steps_is_walked() -> None:
    nodes: list[dict[str, Any]] = []
    steps = 20_000
    for step in range(steps):
        nodes.append({"nodeId": 2 * step, "nodeBehavior": "BranchOnValueLessThan", "branchFeatureValue": float(-step),
                      "trueChildNodeId": 2 * step + 2, "falseChildNodeId": 2 * step + 1})  # fmt: skip
        nodes.append({"nodeId": 2 * step + 1, "nodeBehavior": "LeafNode",
                      "evaluationInfo": [{"evaluationValue": float(step)}]})  # fmt: skip
    nodes.append({"nodeId": 2 * steps, "nodeBehavior": "LeafNode", "evaluationInfo": [{"evaluationValue": -1.0}]})
    model = classic("treeEnsembleRegressor", {"x": [1]}, {"y": "double"},
                    treeEnsemble={"nodes": nodes, "numPredictionDimensions": 1})  # fmt: skip
    with session(model) as running:
        assert running.run({"x": [-15_000.5]})["y"] == 15_001.0
        assert running.run({"x": [-np.inf]})["y"] == -1.0


LEAF = {"nodeBehavior": "LeafNode", "evaluationInfo": [{"evaluationValue": 1.0}]}


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([{"nodeId": 0, "trueChildNodeId": 1, "falseChildNodeId": 9}, {"nodeId": 1, **LEAF}], "leads to node 9"),
        ([{"nodeId": 0, "trueChildNodeId": 1, "falseChildNodeId": 1}, {"nodeId": 1, **LEAF}], "is reached from nodes"),
        ([{"nodeId": 0, "trueChildNodeId": 0, "falseChildNodeId": 1}, {"nodeId": 1, **LEAF}], "lead in a circle"),
        (
            [{"nodeId": 0, **LEAF}, {"nodeId": 1, "trueChildNodeId": 2, "falseChildNodeId": 3},
             {"nodeId": 2, "trueChildNodeId": 1, "falseChildNodeId": 4}, {"nodeId": 3, **LEAF}, {"nodeId": 4, **LEAF}],
            "lead in a circle",
        ),
        ([{"nodeId": 0, **LEAF}, {"nodeId": 0, **LEAF}], "is there twice"),
        ([{"nodeId": 0, **LEAF}, {"nodeId": 1, **LEAF}], "begins at several nodes"),
        (
            [{"nodeId": 0, "branchFeatureValue": np.nan, "trueChildNodeId": 1, "falseChildNodeId": 2},
             {"nodeId": 1, **LEAF}, {"nodeId": 2, **LEAF}],
            "compares with NaN",
        ),
        (
            [{"nodeId": 0, "branchFeatureIndex": 5, "trueChildNodeId": 1, "falseChildNodeId": 2},
             {"nodeId": 1, **LEAF}, {"nodeId": 2, **LEAF}],
            "reads feature 5 of 1",
        ),
        ([{"nodeBehavior": "LeafNode", "evaluationInfo": [{"evaluationIndex": 2}]}], "adds to dimension 2 of 1"),
    ],
)  # fmt: skip
def test_trees_that_make_no_sense_are_refused_by_node(nodes: list[dict[str, Any]], said: str) -> None:
    model = classic("treeEnsembleRegressor", {"x": [1]}, {"y": "double"},
                    treeEnsemble={"nodes": nodes, "numPredictionDimensions": 1})  # fmt: skip
    with pytest.raises(ConversionError, match=said):
        session(model)


@pytest.mark.parametrize("count", [0, 2**40, 3])
def test_a_number_of_dimensions_that_cannot_be_is_refused(count: int) -> None:
    ensemble = {"nodes": [LEAF], "numPredictionDimensions": count, "basePredictionValue": [0.0]}
    with pytest.raises(ConversionError, match="dimensions"):
        session(classic("treeEnsembleRegressor", {"x": [1]}, {"y": "double"}, treeEnsemble=ensemble))
