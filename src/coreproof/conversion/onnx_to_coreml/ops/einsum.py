"""Einsum, for any number of operands: diagonals taken, own letters summed, then pairs multiplied from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import expanded, is_known
from coreproof.conversion.onnx_to_coreml.ops.indexing import length_of

_UNNAMED = "αβγδεζηθ"
"""Letters for the axes that an ellipsis stands for; the rightmost is the last of them."""


@lowering("Einsum")
def einsum(ctx: Context, *inputs: Operand, equation: str) -> Result:
    terms, result = _parse(ctx, equation, [ctx.rank(x) for x in inputs])
    parts = [_diagonal(ctx, x, term) for x, term in zip(inputs, terms, strict=True)]
    parts = [_without_ones(ctx, x, term, parts) for x, term in parts]
    value, letters = parts[0]
    for index, (other, term) in enumerate(parts[1:], start=1):
        needed = set(result) | {c for _, later in parts[index + 1 :] for c in later}
        value, letters = _multiply(ctx, value, letters, other, term, needed)
    value, letters = _summed(ctx, value, letters, set(result))
    return _ordered(ctx, value, letters, result)


def _parse(ctx: Context, equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, ellipses spelled out."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = []
    depth = 0
    for term, rank in zip(left.split(","), ranks, strict=True):
        unnamed = rank - len(term.replace("...", ""))
        depth = max(depth, unnamed if "..." in term else 0)
        terms.append(term.replace("...", _UNNAMED[len(_UNNAMED) - unnamed :] if unnamed else ""))
    ellipsis = _UNNAMED[len(_UNNAMED) - depth :] if depth else ""
    if arrow:
        return terms, right.replace("...", ellipsis)
    # nothing said of the result: the ellipsis, then the letters that occur once, by their ASCII codes
    named = left.replace("...", "").replace(",", "")
    return terms, ellipsis + "".join(sorted(c for c in set(named) if named.count(c) == 1))


def _diagonal(ctx: Context, x: Operand, term: str) -> tuple[Operand, str]:
    """The operand with each letter once: for a repeated one the elements at which both positions are equal."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            first = term.index(letter)
            second = term.index(letter, first + 1)
            order = [i for i in range(len(term)) if i not in (first, second)] + [first, second]
            moved = _transposed(ctx, x, order)
            shape = tuple(moved.shape)
            length = int(shape[-1])
            flat = _reshaped(ctx, moved, [*shape[:-2], length * length])
            # the diagonal of a square that is laid out in a row
            places = np.arange(length, dtype=np.int32) * (length + 1)
            x = ctx.mb.gather(x=flat, indices=places, axis=len(order) - 2)
            term = "".join(term[i] for i in order[:-2]) + letter
    return x, term


def _without_ones(ctx: Context, x: Operand, term: str, parts: Sequence[tuple[Operand, str]]) -> tuple[Operand, str]:
    """Without the axes of an ellipsis that have length 1 here and another length elsewhere: they are broadcast."""
    longer = {c for other, own in parts for c, n in zip(own, other.shape, strict=True) if not (is_known(n) and n == 1)}
    dropped = [i for i, c in enumerate(term) if is_known(x.shape[i]) and x.shape[i] == 1 and c in longer]
    if not dropped:
        return x, term
    kept = "".join(c for i, c in enumerate(term) if i not in dropped)
    if isinstance(x, np.ndarray):
        return np.squeeze(x, tuple(dropped)), kept
    return ctx.mb.squeeze(x=x, axes=dropped), kept


def _summed(ctx: Context, x: Operand, term: str, needed: set[str]) -> tuple[Operand, str]:
    axes = [i for i, c in enumerate(term) if c not in needed]
    if not axes:
        return x, term
    return ctx.mb.reduce_sum(x=x, axes=axes, keep_dims=False), "".join(c for c in term if c in needed)


def _multiply(ctx: Context, x: Operand, left: str, y: Operand, right: str, needed: set[str]) -> tuple[Operand, str]:
    """The product of two operands, summed over the letters that both have and nobody else needs."""
    x, left = _summed(ctx, x, left, needed | set(right))
    y, right = _summed(ctx, y, right, needed | set(left))
    batch = [c for c in left if c in right and c in needed]
    summed = [c for c in left if c in right and c not in needed]
    rows = [c for c in left if c not in right]
    columns = [c for c in right if c not in left]
    lengths: dict[str, int] = {**dict(zip(right, y.shape, strict=True)), **dict(zip(left, x.shape, strict=True))}
    x = _ordered(ctx, x, left, "".join([*batch, *rows, *summed]))
    y = _ordered(ctx, y, right, "".join([*batch, *summed, *columns]))
    letters = "".join([*batch, *rows, *columns])
    if not summed:
        x = expanded(ctx, x, list(range(len(batch) + len(rows), len(letters))))
        y = expanded(ctx, y, list(range(len(batch), len(batch) + len(rows))))
        return ctx.mb.mul(x=x, y=y), letters
    outer = _merged([lengths[c] for c in batch])
    row, column, both = (_merged([lengths[c] for c in part], always=True) for part in (rows, columns, summed))
    grouped_x = _reshaped(ctx, x, [*outer, *row, *both], x, y)
    grouped_y = _reshaped(ctx, y, [*outer, *both, *column], x, y)
    product = ctx.mb.matmul(x=grouped_x, y=grouped_y)
    return _reshaped(ctx, product, [lengths[c] for c in letters], x, y), letters


def _merged(lengths: list[int], *, always: bool = False) -> list[int]:
    """Several axes as one: rows, columns and sums always, batch axes beyond the three that a rank of 5 leaves."""
    if len(lengths) == 1 or (not always and len(lengths) <= 3):
        return lengths
    return [-1] if not all(is_known(n) for n in lengths) else [prod(int(n) for n in lengths)]


def _ordered(ctx: Context, x: Operand, letters: str, wanted: str) -> Operand:
    return _transposed(ctx, x, [letters.index(c) for c in wanted])


def _transposed(ctx: Context, x: Operand, order: list[int]) -> Operand:
    if order == sorted(order):
        return x
    return x.transpose(order) if isinstance(x, np.ndarray) else ctx.mb.transpose(x=x, perm=order)


def _reshaped(ctx: Context, x: Operand, shape: Sequence[int], *sources: Operand) -> Operand:
    """``x`` in that shape, of which one length may be inferred; further free ones are measured at the operands that have them."""
    if tuple(map(str, shape)) == tuple(map(str, x.shape)):
        return x
    target = [int(n) if is_known(n) else -1 for n in shape]
    if isinstance(x, np.ndarray):
        return x.reshape(target)
    if target.count(-1) <= 1:
        return ctx.mb.reshape(x=x, shape=np.array(target, np.int32))
    pieces = [_length(ctx, n, sources) for n in shape]
    if sum(isinstance(p, np.ndarray) and int(p[0]) == -1 for p in pieces) > 1:
        raise ctx.refuse(f"its shape {tuple(shape)} has several free lengths", "one free length at most")
    return ctx.mb.reshape(x=x, shape=ctx.mb.concat(values=pieces, axis=0))


def _length(ctx: Context, length: int, sources: Sequence[Operand]) -> Operand:
    """A length, [1]; -1 where no operand has it."""
    if is_known(length):
        return np.array([int(length)], np.int32)
    for source in sources:
        own = list(map(str, source.shape))
        if str(length) in own:
            return length_of(ctx, source, own.index(str(length)))
    return np.array([-1], np.int32)
