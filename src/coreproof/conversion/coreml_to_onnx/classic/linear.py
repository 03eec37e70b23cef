"""Generalised linear models: GLMRegressor.proto and GLMClassifier.proto."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.counts import labels_of, other_count, unfit_labels
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage, f64
from coreproof.conversion.coreml_to_onnx.classic.transforms import both_classes, normal_distribution
from coreproof.model.coreml.features import read_labels
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2

_NONE, _LOGIT, _PROBIT = 0, 1, 2


def _common(model: CoreMLModel, glm: Model_pb2.GLMRegressor | Model_pb2.GLMClassifier) -> Iterator[str]:
    rows = [len(row.value) for row in glm.weights]
    if not rows or not rows[0]:
        yield "it has no weights"
        return
    if len(set(rows)) > 1:
        yield f"its rows of weights differ in length: {', '.join(map(str, rows[:8]))}"
    if len(rows) != len(glm.offset):
        yield f"it has {len(rows)} rows of weights and {len(glm.offset)} offsets"
    yield from other_count(model, rows[0], "a row of weights has")


def _sums(stage: Stage, glm: Model_pb2.GLMRegressor | Model_pb2.GLMClassifier) -> ir.Value:
    """The weighted sums of the inputs, one a row of weights."""
    weights = f64([list(row.value) for row in glm.weights])
    product = stage.b.op("MatMul", stage.b.constant(weights, "weights"), stage.vector())
    return stage.b.op("Add", product, f64(list(glm.offset)))


# regressors


def _regressor_problems(model: CoreMLModel) -> Iterator[str]:
    glm = model.spec.glmRegressor
    yield from _common(model, glm)
    if glm.postEvaluationTransform not in (_NONE, _LOGIT, _PROBIT):
        yield f"its transform is none that is known ({glm.postEvaluationTransform})"
    output = next(iter(model.signature.outputs), None)
    if output is not None and output.kind == "double" and len(glm.weights) > 1:
        yield f"it makes {len(glm.weights)} numbers, and its output {output.name!r} is one"


@lowers_model(_regressor_problems)
def lower_regressor(stage: Stage) -> None:
    """The sums, or the logistic function or the normal distribution of them."""
    glm = stage.model.spec.glmRegressor
    result = _sums(stage, glm)
    if glm.postEvaluationTransform == _LOGIT:
        result = stage.b.op("Sigmoid", result)
    elif glm.postEvaluationTransform == _PROBIT:
        result = normal_distribution(stage.b, result)
    stage.write_only(result)


# classifiers


def _class_count(glm: Model_pb2.GLMClassifier) -> int:
    rows = len(glm.weights)
    # one row tells two classes apart, whatever the encoding says
    return rows + 1 if glm.classEncoding == glm.ReferenceClass or rows == 1 else rows


def _classifier_problems(model: CoreMLModel) -> Iterator[str]:
    glm = model.spec.glmClassifier
    yield from _common(model, glm)
    if glm.postEvaluationTransform not in (glm.Logit, glm.Probit):
        yield f"its transform is none that is known ({glm.postEvaluationTransform})"
    if glm.classEncoding not in (glm.ReferenceClass, glm.OneVsRest):
        yield f"its encoding of classes is none that is known ({glm.classEncoding})"
    if glm.weights:
        yield from unfit_labels(model, _class_count(glm))
    if glm.postEvaluationTransform == glm.Probit and len(read_labels(model.spec) or ()) > 2:
        yield "probit tells two classes apart, and it has more"


@lowers_model(_classifier_problems)
def lower_classifier(stage: Stage) -> None:
    """Two classes: the link function of one sum. More: softmax against the first class, or each against the rest."""
    glm, b = stage.model.spec.glmClassifier, stage.b
    sums = _sums(stage, glm)
    if len(glm.weights) == 1:
        link = normal_distribution(b, sums) if glm.postEvaluationTransform == glm.Probit else b.op("Sigmoid", sums)
        scores = both_classes(b, link)
    elif glm.classEncoding == glm.ReferenceClass:
        # the first class is what the others are held against: its sum is 0
        scores = b.op("Softmax", b.op("Concat", np.zeros(1), sums, axis=0), axis=0)
    else:
        alone = b.op("Sigmoid", sums)
        scores = b.op("Div", alone, b.op("ReduceSum", alone, np.array([0], np.int64), keepdims=1))
    stage.write_class(labels_of(stage.model, _class_count(glm)), scores)
