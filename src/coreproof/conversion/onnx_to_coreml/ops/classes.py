"""What ai.onnx.ml's estimators make of their scores: the transforms behind them, and the class that is named."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context
from coreproof.conversion.onnx_to_coreml.mil import Operand

ML = "ai.onnx.ml"
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""By the numbers that TreeEnsemble gives them."""


def transformed(ctx: Context, scores: Operand, how: str | int) -> Operand:
    """The scores, [rows, targets], behind a ``post_transform``."""
    mb = ctx.mb
    name = TRANSFORMS[how] if isinstance(how, int) and 0 <= how < len(TRANSFORMS) else str(how)
    if name == "NONE":
        return scores
    if name == "SOFTMAX":
        return mb.softmax(x=scores, axis=-1)
    if name == "LOGISTIC":
        return mb.sigmoid(x=scores)
    if name == "SOFTMAX_ZERO":  # zeros stay zeros, and take no share
        zero = mb.equal(x=scores, y=np.float32(0))
        own = mb.exp(x=mb.sub(x=scores, y=mb.reduce_max(x=scores, axes=[-1], keep_dims=True)))
        own = mb.select(cond=zero, a=np.float32(0), b=own)
        return mb.real_div(x=own, y=mb.reduce_sum(x=own, axes=[-1], keep_dims=True))
    if name == "PROBIT":
        return mb.mul(
            x=_inverse_erf(ctx, mb.sub(x=mb.mul(x=scores, y=np.float32(2)), y=np.float32(1))), y=np.float32(2**0.5)
        )
    raise ctx.refuse(f"post_transform {how}", ", ".join(TRANSFORMS))


_WINITZKI = 0.147


def _inverse_erf(ctx: Context, x: Operand) -> Operand:
    """S. Winitzki's approximation ("A handy approximation for the error function and its inverse", 2008).

    It is what the standard's own implementation and ONNX Runtime compute.
    """
    mb = ctx.mb
    rest = mb.sub(x=np.float32(1), y=mb.mul(x=x, y=x))
    log = mb.log(x=rest, epsilon=np.float32(0))
    v = mb.add(x=mb.mul(x=log, y=np.float32(0.5)), y=np.float32(2 / (pi * _WINITZKI)))
    far = mb.mul(x=log, y=np.float32(1 / _WINITZKI))
    # sqrt(v^2 - far) - v, without the difference of two numbers that are nearly equal around x = 0
    root = mb.add(x=mb.sqrt(x=mb.sub(x=mb.mul(x=v, y=v), y=far)), y=v)
    return mb.mul(x=mb.sign(x=x), y=mb.sqrt(x=mb.real_div(x=mb.mul(x=far, y=np.float32(-1)), y=root)))


def one_for_two(ctx: Context, score: Operand, how: str, *, rest: bool) -> Operand:
    """The scores of two classes of which one alone has a score, [rows, 1]: the other has the rest to 1, or the opposite.

    The standard does not say which; this is what ONNX Runtime makes of it, which asks the transform for LOGISTIC alone.
    """
    mb = ctx.mb
    opposite = mb.mul(x=score, y=np.float32(-1))
    if how == "LOGISTIC":
        return mb.sigmoid(x=mb.concat(values=[opposite, score], axis=1))
    if how == "PROBIT":
        raise ctx.refuse(
            "PROBIT over the one score of two classes", "a score a class: ONNX Runtime answers at random here"
        )
    if how not in TRANSFORMS:
        raise ctx.refuse(f"post_transform {how}", ", ".join(TRANSFORMS))
    return mb.concat(values=[mb.sub(x=np.float32(1), y=score) if rest else opposite, score], axis=1)


def labelled(
    ctx: Context, labels: Sequence[int] | Sequence[str], best: Operand, scores: Operand, *, is_place: bool = False
) -> tuple[Operand, Operand]:
    """The class of the best score, [rows], and the scores; ``is_place``: ``best`` says which class it is already.

    A multi-array holds no text: of classes with names it is the number that is given, which a classifier turns into its name.
    """
    mb = ctx.mb
    place = mb.reshape(x=best, shape=[-1]) if is_place else mb.reduce_argmax(x=best, axis=1, keep_dims=False)
    if not labels or isinstance(labels[0], str) or list(labels) == list(range(len(labels))):
        return place, scores
    return mb.gather(x=np.asarray(labels, np.int32), indices=place, axis=0), scores
