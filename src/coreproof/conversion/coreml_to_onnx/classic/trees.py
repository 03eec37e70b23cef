"""Tree ensembles: TreeEnsemble.proto. The trees are walked all at once, in float64, whatever way each node compares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.classic.counts import fed_count, labels_of, unfit_labels
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage, f64
from coreproof.conversion.coreml_to_onnx.classic.transforms import both_classes
from coreproof.conversion.coreml_to_onnx.classic.tree_table import TreeTable, tree_problems, tree_table
from coreproof.model.coreml.features import read_labels
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2

_NONE, _SOFTMAX, _LOGISTIC, _SOFTMAX_ZERO_REFERENCE = 0, 1, 2, 3


def _regressor_problems(model: CoreMLModel) -> Iterator[str]:
    trees = model.spec.treeEnsembleRegressor
    yield from tree_problems(trees.treeEnsemble, fed_count(model))
    yield from _transform_problems(trees.postEvaluationTransform)
    output = next(iter(model.signature.outputs), None)
    if output is not None and output.kind == "double" and trees.treeEnsemble.numPredictionDimensions > 1:
        yield f"it makes {trees.treeEnsemble.numPredictionDimensions} numbers, and its output {output.name!r} is one"


def _classifier_problems(model: CoreMLModel) -> Iterator[str]:
    trees = model.spec.treeEnsembleClassifier
    yield from tree_problems(trees.treeEnsemble, fed_count(model))
    yield from _transform_problems(trees.postEvaluationTransform)
    yield from unfit_labels(model, _class_count(model, trees))


def _transform_problems(transform: int) -> Iterator[str]:
    if not _NONE <= transform <= _SOFTMAX_ZERO_REFERENCE:
        yield f"its transform is none that is known ({transform})"


def _class_count(model: CoreMLModel, trees: Model_pb2.TreeEnsembleClassifier) -> int:
    count = int(trees.treeEnsemble.numPredictionDimensions)
    if count == 1:
        return 2
    # a reference class of no trees may be counted, or left out
    with_reference = trees.postEvaluationTransform == _SOFTMAX_ZERO_REFERENCE
    return count + 1 if with_reference and len(read_labels(model.spec) or ()) == count + 1 else count


@lowers_model(_regressor_problems)
def lower_regressor(stage: Stage) -> None:
    """The sums of the leaves, transformed."""
    trees = stage.model.spec.treeEnsembleRegressor
    sums = _evaluated(stage, trees.treeEnsemble)
    stage.write_only(_transformed(stage.b, sums, trees.postEvaluationTransform))


@lowers_model(_classifier_problems)
def lower_classifier(stage: Stage) -> None:
    """One sum tells two classes apart, and is the second one's above 0.5; of several the best wins, of equal ones the first."""
    trees, b = stage.model.spec.treeEnsembleClassifier, stage.b
    count = int(trees.treeEnsemble.numPredictionDimensions)
    labels = labels_of(stage.model, _class_count(stage.model, trees))
    sums, transform = _evaluated(stage, trees.treeEnsemble), trees.postEvaluationTransform
    if count == 1:
        # a softmax of the sum and the zero of a reference class is the logistic function
        second = sums if transform == _NONE else b.op("Sigmoid", sums)
        stage.write_class(labels, both_classes(b, second))
        return
    if transform == _SOFTMAX_ZERO_REFERENCE:
        own = sums if len(labels) > count else b.op("Slice", sums, _at(1), _at(count))
        sums = b.op("Concat", np.zeros(1), own, axis=0)
    stage.write_class(labels, _transformed(b, sums, transform))


def _at(place: int) -> np.ndarray:
    return np.array([place], np.int64)


def _transformed(b: OnnxBuilder, sums: ir.Value, transform: int) -> ir.Value:
    if transform == _LOGISTIC:
        return b.op("Sigmoid", sums)
    return sums if transform == _NONE else b.op("Softmax", sums, axis=0)


def _evaluated(stage: Stage, ensemble: Model_pb2.TreeEnsembleParameters) -> ir.Value:
    """The base prediction and what the leaves that are reached add to it, [numPredictionDimensions]."""
    b, table = stage.b, tree_table(ensemble)
    base = f64(list(ensemble.basePredictionValue) or [0.0] * int(ensemble.numPredictionDimensions))
    if not len(table.roots):
        return b.copy(base)
    # what nobody feeds is missing, as NaN is (the inputs of trees may be optional)
    reached = _leaves(b, table, stage.vector(default=np.nan))
    leaf = b.op("Gather", b.constant(table.leaf, "leaf_of_node"), reached)
    amounts = b.op("Gather", b.constant(table.amounts, "leaf_values"), leaf)  # [trees, most]
    if base.size == 1:
        return b.op("Add", b.op("ReduceSum", b.op("Reshape", amounts, _at(-1)), _at(0), keepdims=1), base)
    places = b.op("Reshape", b.op("Gather", b.constant(table.places, "leaf_places"), leaf), _at(-1))
    return b.op("ScatterElements", base, places, b.op("Reshape", amounts, _at(-1)), axis=0, reduction="add")


def _leaves(b: OnnxBuilder, table: TreeTable, x: ir.Value) -> ir.Value:
    """The leaf of each tree, by its place in the table: from the roots on all take a step at once, and a leaf leads to itself."""
    if not table.depth:
        return b.constant(table.roots, "roots")
    features, limits = b.constant(table.features, "feature_of_node"), b.constant(table.limits, "limit_of_node")
    below, above = b.constant(table.below, "next_below"), b.constant(table.above, "next_above")
    body = OnnxBuilder("walk", parent=b)
    body.input(b.unique("step"), "int64", [])
    going = body.input(b.unique("going"), "bool", [])
    at = body.input(b.unique("at"), "int64", [len(table.roots)])
    value = body.op("Gather", x, body.op("Gather", features, at))
    under = body.op("LessOrEqual", value, body.op("Gather", limits, at))
    step = body.op("Where", under, body.op("Gather", below, at), body.op("Gather", above, at))
    if not np.array_equal(table.missing, table.above):  # else a comparison that NaN fails leads there already
        lacking = b.constant(table.missing, "next_missing")
        step = body.op("Where", body.op("IsNaN", value), body.op("Gather", lacking, at), step)
    graph = body.graph([body.copy(going), step])
    trips = np.array(table.depth, np.int64)
    result = b.op("Loop", trips, np.array(True), b.constant(table.roots, "roots"), body=graph)
    result.type, result.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(table.roots)])
    return result
