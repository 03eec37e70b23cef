"""ai.onnx.ml's linear models and support vector machines (those of LIBSVM: C.-C. Chang and C.-J. Lin, 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.classes import ML, labelled, one_for_two, transformed
from coreproof.conversion.onnx_to_coreml.ops.classical import in_float
from coreproof.conversion.onnx_to_coreml.ops.dtypes import float_name
from coreproof.conversion.support_vectors import LEAST_PROBABILITY, pair_weights
from coreproof.model.budget import afford


def _rows(ctx: Context, x: Operand) -> Operand:
    """[rows, columns]; a vector counts as one row."""
    value = in_float(ctx, x)
    return ctx.mb.expand_dims(x=value, axes=[0]) if ctx.rank(value) == 1 else value


def _affine(ctx: Context, x: Operand, weights: Array, bias: Array | None) -> Operand:
    """x W' + b, [rows, targets]."""
    made = ctx.mb.matmul(x=_rows(ctx, x), y=ctx.floats(weights), transpose_y=True)
    return made if bias is None else ctx.mb.add(x=made, y=ctx.floats(bias.reshape(1, -1)))


@lowering("LinearRegressor", domain=ML, error="linear")
def linear_regressor(
    ctx: Context,
    x: Operand,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    post_transform: str = "NONE",
    targets: int = 1,
) -> Result:
    """A row of coefficients a target."""
    if targets == 1 and post_transform not in ("NONE", "PROBIT"):
        raise ctx.refuse(
            f"post_transform {post_transform} of one target",
            "NONE: ONNX Runtime leaves the transform out, and the standard does not",
        )
    bias = None if intercepts is None else np.asarray(intercepts, np.float64)
    return transformed(ctx, _affine(ctx, x, np.reshape(coefficients, (targets, -1)), bias), post_transform)


@lowering("LinearClassifier", domain=ML, error="linear")
def linear_classifier(
    ctx: Context,
    x: Operand,
    *,
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Operand, Operand]:
    """A row of coefficients a class; of two classes there may be one row, whose sign decides."""
    labels = classlabels_strings or classlabels_ints or ()
    width = _rows(ctx, x).shape[1]
    weights = np.reshape(coefficients, (-1, int(width)))
    scores = _affine(ctx, x, weights, None if intercepts is None else np.asarray(intercepts, np.float64))
    if len(weights) > 1:
        return labelled(ctx, labels, scores, transformed(ctx, scores, post_transform))
    second = ctx.mb.cast(x=ctx.mb.greater(x=scores, y=ctx.scalar(0)), dtype="int32")
    if len(labels) == 2:
        made = one_for_two(ctx, scores, post_transform, rest=True)
        return labelled(ctx, labels, second, made, is_place=True)
    return labelled(ctx, (), second, transformed(ctx, scores, post_transform), is_place=True)


# support vectors


def _kernel(ctx: Context, x: Operand, vectors: Array, kind: str, parameters: Sequence[float]) -> Operand:
    """The similarity of each row to each vector, [rows, vectors]."""
    mb = ctx.mb
    gamma, coef0, degree = (*parameters, 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        # |x - v|^2 as it is written: |x|^2 - 2 x v + |v|^2 would lose what is small to what cancels
        afford("the distances to all support vectors", vectors.shape, 4)
        apart = mb.sub(x=mb.expand_dims(x=_rows(ctx, x), axes=[1]), y=ctx.floats(vectors)[None])
        squared = mb.reduce_sum_square(x=apart, axes=[2], keep_dims=False)
        return mb.exp(x=mb.mul(x=squared, y=ctx.scalar(-gamma)))
    product = _affine(ctx, x, vectors, None)
    if kind == "LINEAR":
        return product
    moved = mb.add(x=mb.mul(x=product, y=ctx.scalar(gamma)), y=ctx.scalar(coef0))
    if kind == "POLY":
        return mb.pow(x=moved, y=ctx.scalar(degree))
    if kind == "SIGMOID":
        return mb.tanh(x=moved)
    raise ctx.refuse(f"kernel_type {kind!r}", "LINEAR, POLY, RBF or SIGMOID")


@lowering("SVMRegressor", domain=ML, error="linear")
def svm_regressor(
    ctx: Context,
    x: Operand,
    *,
    coefficients: Sequence[float],
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    n_supports: int = 0,
    n_targets: int = 1,
    one_class: int = 0,
    post_transform: str = "NONE",
    rho: Sequence[float] = (0.0,),
    support_vectors: Sequence[float] = (),
) -> Result:
    """The similarities weighed by the coefficients, plus rho; without support vectors the coefficients are the weights."""
    weights = np.reshape(coefficients, (1, -1))
    alike = x
    if n_supports:
        alike = _kernel(ctx, x, np.reshape(support_vectors, (n_supports, -1)), kernel_type, kernel_params)
    score = _affine(ctx, alike, weights, np.asarray(rho, np.float64)[:1])
    if one_class:
        inside = ctx.mb.cast(x=ctx.mb.greater(x=score, y=ctx.scalar(0)), dtype=float_name(ctx))
        return ctx.mb.sub(x=ctx.mb.mul(x=inside, y=ctx.scalar(2)), y=ctx.scalar(1))
    return transformed(ctx, score, post_transform)


@lowering("SVMClassifier", domain=ML, error="linear")
def svm_classifier(
    ctx: Context,
    x: Operand,
    *,
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    coefficients: Sequence[float],
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    post_transform: str = "NONE",
    prob_a: Sequence[float] = (),
    prob_b: Sequence[float] = (),
    rho: Sequence[float] = (0.0,),
    support_vectors: Sequence[float] = (),
    vectors_per_class: Sequence[int] = (),
) -> tuple[Operand, Operand]:
    """Each pair of classes is decided; most votes win, or the largest of the probabilities that the decisions are made into."""
    labels = classlabels_strings or classlabels_ints or ()
    classes = max(len(labels), 1)
    total = sum(vectors_per_class)
    if not total:  # liblinear: a row of weights a class
        scores = _affine(ctx, x, np.reshape(coefficients, (classes, -1)), np.full(classes, rho[0]))
        return labelled(ctx, labels, scores, transformed(ctx, scores, post_transform))
    alike = _kernel(ctx, x, np.reshape(support_vectors, (total, -1)), kernel_type, kernel_params)
    pairs = list(combinations(range(classes), 2))
    alpha = np.reshape(np.asarray(coefficients, np.float64), (-1, total))
    decisions = _affine(ctx, alike, pair_weights(alpha, vectors_per_class), np.asarray(rho, np.float64))
    votes = _votes(ctx, decisions, pairs, classes)
    if len(prob_a):
        made = _probabilities(ctx, decisions, prob_a, prob_b, pairs, classes)
    elif classes == 2:
        # the decision is for the first class, whose score is written in the place of the second
        return labelled(ctx, labels, votes, one_for_two(ctx, decisions, post_transform, rest=post_transform != "NONE"))
    else:
        made = decisions
    return labelled(ctx, labels, votes, transformed(ctx, made, post_transform))


def _votes(ctx: Context, decisions: Operand, pairs: Sequence[tuple[int, int]], classes: int) -> Operand:
    """How many pairs each class wins, [rows, classes]."""
    first, second = np.zeros((classes, len(pairs)), np.float32), np.zeros((classes, len(pairs)), np.float32)
    for at, (i, j) in enumerate(pairs):
        first[i, at], second[j, at] = 1, 1
    won = ctx.mb.cast(x=ctx.mb.greater(x=decisions, y=ctx.scalar(0)), dtype="fp32")
    lost = ctx.mb.sub(x=np.float32(1), y=won)
    return ctx.mb.add(
        x=ctx.mb.matmul(x=won, y=first, transpose_y=True), y=ctx.mb.matmul(x=lost, y=second, transpose_y=True)
    )


_ROUNDS = 100


def _probabilities(
    ctx: Context,
    decisions: Operand,
    prob_a: Sequence[float],
    prob_b: Sequence[float],
    pairs: Sequence[tuple[int, int]],
    classes: int,
) -> Operand:
    """Pairwise probabilities (a logistic function of each decision), coupled to those of the classes, [rows, classes]."""
    mb = ctx.mb
    wide = mb.cast(x=decisions, dtype="fp32") if ctx.dtype == np.float16 else decisions
    rising = mb.add(x=mb.mul(x=wide, y=np.asarray(prob_a, np.float32)[None]), y=np.asarray(prob_b, np.float32)[None])
    decided = mb.sigmoid(x=mb.mul(x=rising, y=np.float32(-1)))
    pairwise = mb.clip(x=decided, alpha=np.float32(LEAST_PROBABILITY), beta=np.float32(1 - LEAST_PROBABILITY))
    rest = mb.sub(x=np.float32(1), y=pairwise)
    # r[i, j]: the probability of i against j; r[i, i] = 0
    to_i, to_j = (
        np.zeros((len(pairs), classes * classes), np.float32),
        np.zeros((len(pairs), classes * classes), np.float32),
    )
    for at, (i, j) in enumerate(pairs):
        to_i[at, i * classes + j], to_j[at, j * classes + i] = 1, 1
    flat = mb.add(x=mb.matmul(x=pairwise, y=to_i), y=mb.matmul(x=rest, y=to_j))
    return _coupled(ctx, mb.reshape(x=flat, shape=[-1, classes, classes]), classes)


def _coupled(ctx: Context, r: Operand, classes: int) -> Operand:
    """The classes' probabilities that fit the pairwise ones best: T.-F. Wu, C.-J. Lin and R. C. Weng (2004), second method.

    As LIBSVM iterates it: at most 100 rounds, and each row stops where its conditions are met to 0.005 / classes.
    """
    mb = ctx.mb
    transposed = mb.transpose(x=r, perm=[0, 2, 1])
    eye = np.eye(classes, dtype=np.float32)
    off = mb.mul(x=mb.mul(x=transposed, y=r), y=np.float32(-1))
    diagonal = mb.reduce_sum(x=mb.mul(x=transposed, y=transposed), axes=[2], keep_dims=True)  # [rows, classes, 1]
    q = mb.add(x=off, y=mb.mul(x=diagonal, y=eye[None]))
    start = mb.add(x=mb.mul(x=diagonal, y=np.float32(0)), y=np.float32(1 / classes))

    def column(of: Operand, at: int) -> Operand:
        return mb.slice_by_size(x=of, begin=[0, at, 0], size=[-1, 1, -1])

    def round_of(p: Operand, going: Operand, count: Operand) -> tuple[Operand, Operand, Operand]:
        qp = mb.matmul(x=q, y=p)
        pqp = mb.reduce_sum(x=mb.mul(x=p, y=qp), axes=[1], keep_dims=True)
        worst = mb.reduce_max(x=mb.abs(x=mb.sub(x=qp, y=pqp)), axes=[1], keep_dims=True)
        going_now = mb.greater_equal(x=worst, y=np.float32(0.005 / classes))
        moved = p
        for t in range(classes):
            own, here = column(diagonal, t), column(qp, t)
            change = mb.real_div(x=mb.sub(x=pqp, y=here), y=own)
            grown = mb.add(x=change, y=np.float32(1))
            inner = mb.add(x=mb.mul(x=change, y=own), y=mb.mul(x=here, y=np.float32(2)))
            pqp = mb.real_div(x=mb.add(x=pqp, y=mb.mul(x=change, y=inner)), y=mb.mul(x=grown, y=grown))
            row = mb.transpose(x=column(q, t), perm=[0, 2, 1])
            qp = mb.real_div(x=mb.add(x=qp, y=mb.mul(x=change, y=row)), y=grown)
            moved = mb.real_div(x=mb.add(x=moved, y=mb.mul(x=change, y=eye[t].reshape(1, -1, 1))), y=grown)
        # a row that has stopped stays as it is
        kept = mb.select(cond=mb.logical_and(x=mb.greater(x=going, y=np.float32(0)), y=going_now), a=moved, b=p)
        still = mb.mul(x=mb.cast(x=going_now, dtype="fp32"), y=going)
        return kept, still, mb.add(x=count, y=np.float32(1))

    def goes_on(p: Operand, going: Operand, count: Operand) -> Operand:
        any_row = mb.reduce_max(x=going, axes=[0, 1, 2], keep_dims=False)
        return mb.logical_and(x=mb.greater(x=any_row, y=np.float32(0)), y=mb.less(x=count, y=np.float32(_ROUNDS)))

    going = mb.add(x=mb.mul(x=column(diagonal, 0), y=np.float32(0)), y=np.float32(1))
    ended = several(mb.while_loop(_cond=goes_on, _body=round_of, loop_vars=(start, going, np.float32(0))))
    made = mb.squeeze(x=ended[0], axes=[2])
    return mb.cast(x=made, dtype="fp16") if ctx.dtype == np.float16 else made
