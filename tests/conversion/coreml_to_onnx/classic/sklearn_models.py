"""Trained scikit-learn models as the Core ML files that coremltools' converter makes of them, which refuses new scikit-learns."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreproof.model.coreml.model import CoreMLModel
from tests.build import classic


def labels_field(classes: Any) -> dict[str, Any]:
    if isinstance(classes[0], str):
        return {"stringClassLabels": {"vector": [str(c) for c in classes]}}
    return {"int64ClassLabels": {"vector": [int(c) for c in classes]}}


def class_outputs(classes: Any, *, probabilities: bool = True) -> dict[str, str]:
    kind = "string" if isinstance(classes[0], str) else "int64"
    return {"label": kind, **({"chances": f"dictionary {kind}"} if probabilities else {})}


def linear_regressor(model: Any) -> CoreMLModel:
    rows = np.atleast_2d(model.coef_)
    return classic(
        "glmRegressor",
        {"x": [rows.shape[1]]},
        {"y": "double" if len(rows) == 1 else [len(rows)]},
        weights=[{"value": row.tolist()} for row in rows],
        offset=np.atleast_1d(model.intercept_).tolist(),
    )


def linear_classifier(model: Any, encoding: str = "OneVsRest") -> CoreMLModel:
    rows, offsets = model.coef_, model.intercept_
    if encoding == "ReferenceClass" and len(rows) > 1:
        # a softmax does not change when the first class's sum is taken from all
        rows, offsets = rows[1:] - rows[0], offsets[1:] - offsets[0]
    return classic(
        "glmClassifier",
        {"x": [rows.shape[1]]},
        class_outputs(model.classes_),
        weights=[{"value": row.tolist()} for row in rows],
        offset=offsets.tolist(),
        classEncoding=encoding,
        **labels_field(model.classes_),
    )


def tree_nodes(tree: Any, number: int, value: Any) -> list[dict[str, Any]]:
    """The nodes of one scikit-learn tree; ``value`` makes a leaf's additions of what is stored at it."""
    nodes = []
    for node in range(tree.node_count):
        common = {"treeId": number, "nodeId": node}
        if tree.children_left[node] < 0:
            added = [{"evaluationIndex": i, "evaluationValue": float(v)} for i, v in value(tree.value[node])]
            nodes.append({**common, "nodeBehavior": "LeafNode", "evaluationInfo": added})
        else:
            nodes.append({
                **common, "nodeBehavior": "BranchOnValueLessThanEqual", "branchFeatureIndex": int(tree.feature[node]),
                "branchFeatureValue": float(tree.threshold[node]), "trueChildNodeId": int(tree.children_left[node]),
                "falseChildNodeId": int(tree.children_right[node]),
            })  # fmt: skip
    return nodes


def forest_regressor(model: Any) -> CoreMLModel:
    share = 1 / len(model.estimators_)
    outputs = model.n_outputs_
    nodes = [
        node
        for number, tree in enumerate(model.estimators_)
        for node in tree_nodes(tree.tree_, number, lambda value: list(enumerate(value[:, 0] * share)))
    ]
    ensemble = {"nodes": nodes, "numPredictionDimensions": outputs, "basePredictionValue": [0.0] * outputs}
    target = {"y": "double" if outputs == 1 else [outputs]}
    return classic("treeEnsembleRegressor", {"x": [model.n_features_in_]}, target, treeEnsemble=ensemble)


def forest_classifier(model: Any) -> CoreMLModel:
    """Two classes by one sum, as coremltools makes it; more by a sum each."""
    share, count = 1 / len(model.estimators_), len(model.classes_)

    def value(stored: np.ndarray) -> list[tuple[int, float]]:
        shares = stored[0] / stored[0].sum() * share
        return [(0, shares[1])] if count == 2 else list(enumerate(shares))

    nodes = [n for i, tree in enumerate(model.estimators_) for n in tree_nodes(tree.tree_, i, value)]
    dimensions = 1 if count == 2 else count
    ensemble = {"nodes": nodes, "numPredictionDimensions": dimensions, "basePredictionValue": [0.0] * dimensions}
    return classic(
        "treeEnsembleClassifier",
        {"x": [model.n_features_in_]},
        class_outputs(model.classes_),
        treeEnsemble=ensemble,
        **labels_field(model.classes_),
    )


def boosted_classifier(model: Any, base: list[float]) -> CoreMLModel:
    nodes, number = [], 0
    for stage in model.estimators_:
        for dimension, tree in enumerate(stage):

            def value(stored: np.ndarray, dimension: int = dimension) -> list[tuple[int, float]]:
                return [(dimension, stored[0][0] * model.learning_rate)]

            nodes += tree_nodes(tree.tree_, number, value)
            number += 1
    ensemble = {"nodes": nodes, "numPredictionDimensions": len(base), "basePredictionValue": base}
    return classic(
        "treeEnsembleClassifier",
        {"x": [model.n_features_in_]},
        class_outputs(model.classes_),
        treeEnsemble=ensemble,
        postEvaluationTransform="Regression_Logistic" if len(base) == 1 else "Classification_SoftMax",
        **labels_field(model.classes_),
    )


def _kernel(model: Any) -> dict[str, Any]:
    gamma, c = model._gamma, model.coef0
    return {
        "linear": {"linearKernel": {}},
        "rbf": {"rbfKernel": {"gamma": gamma}},
        "poly": {"polyKernel": {"gamma": gamma, "c": c, "degree": model.degree}},
        "sigmoid": {"sigmoidKernel": {"gamma": gamma, "c": c}},
    }[model.kernel]


def _vectors(rows: np.ndarray, *, sparse: bool) -> dict[str, Any]:
    if not sparse:
        return {"denseSupportVectors": {"vectors": [{"values": row.tolist()} for row in rows]}}
    entries = [[{"index": int(i) + 1, "value": float(row[i])} for i in np.flatnonzero(row)] for row in rows]
    return {"sparseSupportVectors": {"vectors": [{"nodes": row} for row in entries]}}


def support_vector_regressor(model: Any, *, sparse: bool = False) -> CoreMLModel:
    return classic(
        "supportVectorRegressor",
        {"x": [model.n_features_in_]},
        {"y": "double"},
        kernel=_kernel(model),
        coefficients={"alpha": model._dual_coef_[0].tolist()},
        rho=float(-model.intercept_[0]),
        **_vectors(model.support_vectors_, sparse=sparse),
    )


def support_vector_classifier(model: Any, *, sparse: bool = False) -> CoreMLModel:
    sign = 1 if len(model.classes_) == 2 else -1
    probabilities = len(model._probA) > 0
    return classic(
        "supportVectorClassifier",
        {"x": [model.n_features_in_]},
        class_outputs(model.classes_, probabilities=probabilities),
        kernel=_kernel(model),
        numberOfSupportVectorsPerClass=[int(n) for n in model.n_support_],
        coefficients=[{"alpha": row.tolist()} for row in model._dual_coef_],
        rho=(sign * model.intercept_).tolist(),
        probA=model._probA.tolist(),
        probB=model._probB.tolist(),
        **_vectors(model.support_vectors_, sparse=sparse),
        **labels_field(model.classes_),
    )
