"""Matrix products."""

from __future__ import annotations

import numpy as np

from coreproof.convert.onnx_to_coreml.lowering import Context, Operand, Result, lowering


@lowering("Gemm")
def gemm(
    ctx: Context,
    a: Operand,
    b: Operand,
    c: Operand = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803
    broadcast: int = 1,
) -> Result:
    """A fully connected layer where B is constant and C a row: MIL's linear, [out, in] weights."""
    if transA:
        a = a.T if isinstance(a, np.ndarray) else ctx.mb.transpose(x=a, perm=[1, 0])
    row = c is None or (isinstance(c, np.ndarray) and c.size == (c.shape or (1,))[-1])
    if isinstance(b, np.ndarray) and not isinstance(a, np.ndarray) and row:
        weight = b if transB else b.T
        out = weight.shape[0]
        bias = np.zeros(out, ctx.dtype) if c is None else np.broadcast_to(c.reshape(-1) * ctx.scalar(beta), (out,))
        return linear(ctx, a, weight * ctx.scalar(alpha) if alpha != 1.0 else weight, bias)
    product = ctx.mb.matmul(x=a, y=b, transpose_y=bool(transB))
    if alpha != 1.0:
        product = ctx.mb.mul(x=product, y=ctx.scalar(alpha))
    if c is None or beta == 0.0:
        return product
    scaled = c
    if beta != 1.0:
        scaled = c * ctx.scalar(beta) if isinstance(c, np.ndarray) else ctx.mb.mul(x=c, y=ctx.scalar(beta))
    return ctx.mb.add(x=product, y=scaled)


def linear(ctx: Context, x: Operand, weight: np.ndarray, bias: np.ndarray | None) -> Result:
    """x @ weight.T + bias"""
    arguments = {"x": x, "weight": np.ascontiguousarray(weight)}
    if bias is not None:
        arguments["bias"] = np.ascontiguousarray(bias.astype(ctx.dtype))
    return ctx.mb.linear(**arguments)


@lowering("MatMul")
def matmul(ctx: Context, a: Operand, b: Operand) -> Result:
    """numpy's rules, one-dimensional operands included; linear where the right one is a constant matrix."""
    if not ctx.is_float(a):
        raise ctx.refuse("integer operands", "floats")
    if isinstance(b, np.ndarray) and b.ndim == 2 and not isinstance(a, np.ndarray) and ctx.rank(a) in (2, 3):
        return linear(ctx, a, b.T, None)
    rank_a, rank_b = ctx.rank(a), ctx.rank(b)
    left = a if rank_a > 1 else expand(ctx, a, 0)
    right = b if rank_b > 1 else expand(ctx, b, 1)
    product = ctx.mb.matmul(x=left, y=right)
    drop = ([-2] if rank_a == 1 else []) + ([-1] if rank_b == 1 else [])
    return ctx.mb.squeeze(x=product, axes=drop) if drop else product


def expand(ctx: Context, x: Operand, axis: int) -> Operand:
    return np.expand_dims(x, axis) if isinstance(x, np.ndarray) else ctx.mb.expand_dims(x=x, axes=[axis])


@lowering("Einsum")
def einsum(ctx: Context, *operands: Operand, equation: str | bytes) -> Result:
    """One or two operands: transposed so that shared, summed and own letters lie together, then one matmul."""
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    left, _, result = text.partition("->")
    terms = left.split(",")
    if "." in text:
        terms, result = _name_ellipsis(ctx, terms, result if "->" in text else None, operands)
    if "->" not in text and "." not in text:
        result = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if any(len(set(t)) != len(t) for t in terms):
        raise ctx.refuse(f"a diagonal in {text!r}", "each letter once an operand")
    if len(operands) == 1:
        return _reduce_and_order(ctx, operands[0], terms[0], result)
    if len(operands) != 2:
        raise ctx.refuse(f"{len(operands)} operands", "one or two")
    return _contract(ctx, operands[0], operands[1], terms[0], terms[1], result)


def _name_ellipsis(
    ctx: Context, terms: list[str], result: str | None, operands: tuple[Operand, ...]
) -> tuple[list[str], str]:
    """Replaces "..." by letters that are not used."""
    used = set("".join(terms))
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in used]
    depth = max(ctx.rank(o) - len(t.replace("...", "")) for t, o in zip(terms, operands, strict=True) if "..." in t)
    letters = "".join(free[:depth])
    named = []
    for term, operand in zip(terms, operands, strict=True):
        own = ctx.rank(operand) - len(term.replace("...", "")) if "..." in term else 0
        named.append(term.replace("...", letters[depth - own :]))
    if result is None:
        joined = "".join(terms).replace(".", "")
        result = "..." + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    return named, result.replace("...", letters)


def _reduce_and_order(ctx: Context, x: Operand, term: str, result: str) -> Operand:
    summed = [i for i, c in enumerate(term) if c not in result]
    if summed:
        x = ctx.mb.reduce_sum(x=x, axes=summed, keep_dims=False)
    kept = [c for c in term if c in result]
    order = [kept.index(c) for c in result]
    return x if order == sorted(order) else ctx.mb.transpose(x=x, perm=order)


def _contract(ctx: Context, a: Operand, b: Operand, left: str, right: str, result: str) -> Operand:
    """[batch..., rows, summed] x [batch..., summed, columns] -> [batch..., rows, columns], then the order asked for."""
    only_left = [c for c in left if c not in right and c not in result]
    only_right = [c for c in right if c not in left and c not in result]
    a, left = _drop(ctx, a, left, only_left)
    b, right = _drop(ctx, b, right, only_right)
    batch = [c for c in result if c in left and c in right]
    summed = [c for c in left if c in right and c not in result]
    rows = [c for c in left if c not in right]
    columns = [c for c in right if c not in left]
    lengths = dict(zip(left, ctx.shape(a), strict=True)) | dict(zip(right, ctx.shape(b), strict=True))

    def group(x: Operand, term: str, order: list[list[str]]) -> Operand:
        perm = [term.index(c) for letters in order for c in letters]
        moved = x if perm == sorted(perm) else transpose(ctx, x, perm)
        shape = [lengths[c] for c in batch] + [int(np.prod([lengths[c] for c in g], dtype=np.int64)) for g in order[1:]]
        return reshape(ctx, moved, shape)

    product = ctx.mb.matmul(x=group(a, left, [batch, rows, summed]), y=group(b, right, [batch, summed, columns]))
    letters = [*batch, *rows, *columns]
    whole = ctx.mb.reshape(x=product, shape=[lengths[c] for c in letters] or [1])
    if not letters:
        return ctx.mb.squeeze(x=whole, axes=[0])
    perm = [letters.index(c) for c in result]
    return whole if perm == sorted(perm) else ctx.mb.transpose(x=whole, perm=perm)


def _drop(ctx: Context, x: Operand, term: str, letters: list[str]) -> tuple[Operand, str]:
    if not letters:
        return x, term
    summed = ctx.mb.reduce_sum(x=x, axes=[term.index(c) for c in letters], keep_dims=False)
    return summed, "".join(c for c in term if c not in letters)


def transpose(ctx: Context, x: Operand, perm: list[int]) -> Operand:
    return x.transpose(perm) if isinstance(x, np.ndarray) else ctx.mb.transpose(x=x, perm=perm)


def reshape(ctx: Context, x: Operand, shape: list[int]) -> Operand:
    return x.reshape(shape) if isinstance(x, np.ndarray) else ctx.mb.reshape(x=x, shape=shape)
