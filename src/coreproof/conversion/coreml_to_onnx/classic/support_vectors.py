"""Support vector machines: SVM.proto, which is libsvm's model (C.-C. Chang and C.-J. Lin, "LIBSVM", 2011) as a message."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.classic.counts import fed_count, labels_of, other_count, unfit_labels
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage, f64, known_shape
from coreproof.conversion.support_vectors import LEAST_PROBABILITY, pair_weights
from coreproof.model.budget import afford
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2

_FIRST = np.array([0], np.int64)
_Machine = Model_pb2.SupportVectorClassifier | Model_pb2.SupportVectorRegressor


# support vectors and kernels


def _vector_problems(model: CoreMLModel, machine: _Machine) -> Iterator[str]:
    if machine.kernel.WhichOneof("kernel") is None:
        yield "it names no kernel"
    which = machine.WhichOneof("supportVectors")
    if which is None:
        yield "it has no support vectors"
    elif which == "denseSupportVectors":
        lengths = sorted({len(vector.values) for vector in machine.denseSupportVectors.vectors})
        if len(lengths) > 1:
            yield f"its support vectors differ in length: {', '.join(map(str, lengths[:8]))}"
        elif lengths:
            yield from other_count(model, lengths[0], "a support vector has")
    else:
        indices = [node.index for vector in machine.sparseSupportVectors.vectors for node in vector.nodes]
        fed = fed_count(model)
        # libsvm counts from 1
        if indices and (min(indices) < 1 or (fed is not None and max(indices) > fed)):
            wrong = min(indices) if min(indices) < 1 else max(indices)
            yield f"a support vector has a value at {wrong}, and the places are 1 to {'?' if fed is None else fed}"
    if machine.kernel.polyKernel.degree < 0:
        yield f"the degree of its kernel is {machine.kernel.polyKernel.degree}"


def _vector_count(machine: _Machine) -> int:
    which = machine.WhichOneof("supportVectors")
    return len(getattr(machine, which).vectors) if which is not None else 0


def _vectors(stage: Stage, machine: _Machine, x: ir.Value) -> np.ndarray:
    if machine.WhichOneof("supportVectors") == "denseSupportVectors":
        return f64([list(vector.values) for vector in machine.denseSupportVectors.vectors])
    vectors = machine.sparseSupportVectors.vectors
    known = known_shape(x)
    width = known[0] if known else max([0, *(node.index for vector in vectors for node in vector.nodes)])
    afford("the support vectors, with their zeros,", [len(vectors), width], 8, where=stage.where)
    dense = np.zeros((len(vectors), width))
    for row, vector in enumerate(vectors):
        for node in vector.nodes:
            dense[row, node.index - 1] = node.value
    return dense


def _similarities(stage: Stage, machine: _Machine) -> ir.Value:
    """The kernel of the input with each support vector."""
    b, kernel, x = stage.b, machine.kernel, stage.vector()
    vectors = b.constant(_vectors(stage, machine, x), "support_vectors")
    which = kernel.WhichOneof("kernel")
    if which == "rbfKernel":
        apart = b.op("Sub", vectors, x)
        distance = b.op("ReduceSum", b.op("Mul", apart, apart), np.array([1], np.int64), keepdims=0)
        return b.op("Exp", b.op("Mul", distance, f64(-kernel.rbfKernel.gamma)))
    product = b.op("MatMul", vectors, x)
    if which == "polyKernel":
        poly = kernel.polyKernel
        return b.op("Pow", b.op("Add", b.op("Mul", product, f64(poly.gamma)), f64(poly.c)), f64(poly.degree))
    if which == "sigmoidKernel":
        sigmoid = kernel.sigmoidKernel
        return b.op("Tanh", b.op("Add", b.op("Mul", product, f64(sigmoid.gamma)), f64(sigmoid.c)))
    return product


# regressor


def _regressor_problems(model: CoreMLModel) -> Iterator[str]:
    machine = model.spec.supportVectorRegressor
    yield from _vector_problems(model, machine)
    if len(machine.coefficients.alpha) != _vector_count(machine):
        yield f"it has {_vector_count(machine)} support vectors and {len(machine.coefficients.alpha)} coefficients"


@lowers_model(_regressor_problems)
def lower_regressor(stage: Stage) -> None:
    """The similarities weighed by the coefficients, less rho."""
    machine, b = stage.model.spec.supportVectorRegressor, stage.b
    if not machine.coefficients.alpha:
        stage.write_only(b.copy(f64([-machine.rho])))
        return
    weighed = b.op("Mul", _similarities(stage, machine), f64(list(machine.coefficients.alpha)))
    stage.write_only(b.op("Sub", b.op("ReduceSum", weighed, _FIRST, keepdims=1), f64(machine.rho)))


# classifier


def _classifier_problems(model: CoreMLModel) -> Iterator[str]:
    machine = model.spec.supportVectorClassifier
    yield from _vector_problems(model, machine)
    classes, total = len(machine.numberOfSupportVectorsPerClass), _vector_count(machine)
    if classes < 2:
        yield f"it tells {classes} classes apart"
        return
    pairs = classes * (classes - 1) // 2
    counts = list(machine.numberOfSupportVectorsPerClass)
    if min(counts) < 0 or sum(counts) != total:
        yield f"it has {total} support vectors, and {sum(counts)} in all classes"
    if len(machine.coefficients) != classes - 1:
        yield f"it has {classes} classes, and {len(machine.coefficients)} rows of coefficients"
    lengths = sorted({len(row.alpha) for row in machine.coefficients} - {total})
    if lengths:
        yield f"it has {total} support vectors, and a row of {lengths[0]} coefficients"
    if len(machine.rho) != pairs:
        yield f"it has {classes} classes, thus {pairs} pairs of them, and {len(machine.rho)} constants (rho)"
    for name, values in (("probA", machine.probA), ("probB", machine.probB)):
        if len(values) not in (0, pairs) or len(machine.probA) != len(machine.probB):
            yield f"it has {pairs} pairs of classes, and {len(values)} values of {name}"
    yield from unfit_labels(model, classes)
    if not machine.probA and model.signature.probabilities in {f.name for f in model.signature.outputs}:
        yield f"its output {model.signature.probabilities!r} is to hold probabilities, and it stores nothing to make them of"


@lowers_model(_classifier_problems)
def lower_classifier(stage: Stage) -> None:
    """The class that wins most of the pairs, or the most probable one where probabilities are made of what the pairs decide."""
    machine, b = stage.model.spec.supportVectorClassifier, stage.b
    classes = len(machine.numberOfSupportVectorsPerClass)
    alpha = f64([list(row.alpha) for row in machine.coefficients])
    weights = pair_weights(alpha, machine.numberOfSupportVectorsPerClass)
    if weights.shape[1]:
        product = b.op("MatMul", b.constant(weights, "pair_weights"), _similarities(stage, machine))
        decisions = b.op("Sub", product, f64(list(machine.rho)))
    else:
        decisions = b.copy(f64([-rho for rho in machine.rho]))
    labels = labels_of(stage.model, classes)
    if machine.probA:
        stage.write_class(labels, _probabilities(b, decisions, machine, classes))
        return
    pairs = np.array(list(combinations(range(classes), 2)), np.int64)
    # libsvm's vote: a decision above 0 speaks for the first of the pair
    winners = b.op("Where", b.op("Greater", decisions, f64(0)), pairs[:, 0], pairs[:, 1])
    votes = b.op("ScatterElements", np.zeros(classes), winners, np.ones(len(pairs)), axis=0, reduction="add")
    stage.write_class(labels, votes)


def _probabilities(
    b: OnnxBuilder, decisions: ir.Value, machine: Model_pb2.SupportVectorClassifier, classes: int
) -> ir.Value:
    """Pairwise probabilities (a logistic function of each decision), coupled to those of the classes."""
    rising = b.op("Add", b.op("Mul", decisions, f64(list(machine.probA))), f64(list(machine.probB)))
    # 1 / (1 + exp(A f + B)) (Platt), away from 0 and 1, which would decide alone
    pairwise = b.op("Clip", b.op("Sigmoid", b.op("Neg", rising)), f64(LEAST_PROBABILITY), f64(1 - LEAST_PROBABILITY))
    if classes == 2:
        return b.op("Concat", pairwise, b.op("Sub", f64(1), pairwise), axis=0)
    # r[i, j]: the probability of i against j
    # the probabilities of i against j, those of j against i, and a zero for i against itself
    flat = b.op("Concat", pairwise, b.op("Sub", f64(1), pairwise), f64([0]), axis=0)
    pairs = list(combinations(range(classes), 2))
    place = np.full((classes, classes), 2 * len(pairs), np.int64)
    for index, (i, j) in enumerate(pairs):
        place[i, j], place[j, i] = index, len(pairs) + index
    return _coupled(b, b.op("Gather", flat, place), classes)


def _coupled(b: OnnxBuilder, r: ir.Value, classes: int) -> ir.Value:
    """The classes' probabilities that fit the pairwise ones best: T.-F. Wu, C.-J. Lin and R. C. Weng (2004), second method.

    As libsvm iterates it: at most max(100, classes) rounds, fewer where each condition is met to 0.005 / classes.
    """
    transposed = b.op("Transpose", r, perm=[1, 0])
    off = b.op("Neg", b.op("Mul", transposed, r))
    diagonal = b.op("ReduceSum", b.op("Mul", transposed, transposed), np.array([1], np.int64), keepdims=0)
    eye = np.eye(classes)
    # r is 0 on its diagonal, and so is the product
    q = b.op("Add", off, b.op("Mul", eye, diagonal))
    start = b.op("Expand", f64(1 / classes), np.array([classes], np.int64))
    body = OnnxBuilder("couple", parent=b)
    body.input(b.unique("round"), "int64", [])
    body.input(b.unique("going"), "bool", [])
    p = body.input(b.unique("p"), "float64", [classes])
    qp = body.op("MatMul", q, p)
    pqp = body.op("ReduceSum", body.op("Mul", p, qp), _FIRST, keepdims=0)
    worst = body.op("ReduceMax", body.op("Abs", body.op("Sub", qp, pqp)), _FIRST, keepdims=0)
    done = body.op("Less", worst, f64(0.005 / classes))
    new_p = p
    for t in range(classes):
        at = np.array([t], np.int64)
        own = body.op("Gather", diagonal, at)
        change = body.op("Div", body.op("Sub", pqp, body.op("Gather", qp, at)), own)
        moved = body.op("Add", new_p, body.op("Mul", f64(eye[t]), change))
        grown = body.op("Add", f64(1), change)
        column = body.op("Gather", q, np.array(t, np.int64), axis=0)
        inner = body.op("Add", body.op("Mul", change, own), body.op("Mul", f64(2), body.op("Gather", qp, at)))
        pqp = body.op("Div", body.op("Add", pqp, body.op("Mul", change, inner)), body.op("Mul", grown, grown))
        qp = body.op("Div", body.op("Add", qp, body.op("Mul", change, column)), grown)
        new_p = body.op("Div", moved, grown)
    graph = body.graph([body.op("Not", done), body.op("Where", done, p, new_p)])
    result = b.op("Loop", np.array(max(100, classes), np.int64), np.array(True), start, body=graph)
    result.type, result.shape = ir.TensorType(ir.DataType.DOUBLE), ir.Shape([classes])
    return result
