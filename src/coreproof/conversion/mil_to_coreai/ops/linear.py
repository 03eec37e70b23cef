"""MIL's products of matrices in Core AI's operations."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates


@translates("linear")
def linear(t: Translation, *, x: Operand, weight: Operand, bias: Operand = None) -> Tensor:
    vector = t.rank(x) == 1
    value = t.expand_dims(x, [0]) if vector else t.value(x)
    product = t.matmul(value, swapped(t, t.value(weight, value.element if t.is_float(weight) else None)))
    if bias is not None:
        product = t.binary("add", product, bias)
    return t.shrink_dims(product, [0]) if vector else product


@translates("matmul")
def matmul(t: Translation, *, x: Operand, y: Operand, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    # from iOS17 on one side may hold integers
    if t.is_float(x) != t.is_float(y):
        wide = t.element(x) if t.is_float(x) else t.element(y)
        x, y = t.value(x, wide), t.value(y, wide)
    ranks = t.rank(x), t.rank(y)
    # a vector has no second dimension: a row in front, a column behind
    a = t.expand_dims(x, [0]) if ranks[0] == 1 else swapped(t, x) if transpose_x else t.value(x)
    b = t.expand_dims(y, [1]) if ranks[1] == 1 else swapped(t, y) if transpose_y else t.value(y)
    product = t.matmul(a, b)
    gone = [len(product.shape) - 2] * (ranks[0] == 1) + [len(product.shape) - 1] * (ranks[1] == 1)
    return t.shrink_dims(product, gone)


@translates("einsum", in_float32=True)
def einsum(t: Translation, *, values: Sequence[Operand], equation: str) -> Tensor:
    """Of two tensors: what both have and the result has not is summed in a product of matrices."""
    left, _, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or any(len(set(term)) < len(term) for term in (*terms, out)) or "." in equation:
        raise t.refuse("an equation of this form is not translated", found=equation)
    known: dict[str, int] = {}
    for term, value in zip(terms, values, strict=True):
        for letter, n in zip(term, t.fixed(t.shape(value), "einsum needs inputs of known size"), strict=True):
            known[letter] = n if known.get(letter, 1) == 1 else known[letter]
    # an axis of length 1 stands for one of any length
    values = [t.broadcast_to(v, [known[letter] for letter in term]) for term, v in zip(terms, values, strict=True)]
    parts = []
    for term, other, value in zip(terms, terms[::-1], values, strict=True):
        alone = [i for i, letter in enumerate(term) if letter not in other and letter not in out]
        parts.append(t.shrink_dims(t.reduce("reduce_sum", value, alone), alone))
    kept = ["".join(c for c in term if c in out or c in other) for term, other in zip(terms, terms[::-1], strict=True)]
    batch = [c for c in kept[0] if c in kept[1] and c in out]
    summed = [c for c in kept[0] if c in kept[1] and c not in out]
    rows, columns = ([c for c in term if c not in batch and c not in summed] for term in kept)

    def size(letters: Sequence[str]) -> int:
        total = 1
        for letter in letters:
            total *= known[letter]
        return total

    def arranged(part: Tensor, term: str, first: Sequence[str], second: Sequence[str]) -> Tensor:
        moved = t.transpose(part, [term.index(c) for c in (*batch, *first, *second)])
        return t.reshape(moved, [size(batch), size(first), size(second)])

    product = t.matmul(arranged(parts[0], kept[0], rows, summed), arranged(parts[1], kept[1], summed, columns))
    made = [*batch, *rows, *columns]
    spread = t.reshape(product, [known[c] for c in made])
    return t.transpose(spread, [made.index(c) for c in out])


def swapped(t: Translation, x: Operand) -> Tensor:
    """``x`` with its last two dimensions swapped; a weight stays as it is stored, and an operation turns it."""
    rank = t.rank(x)
    return t.transpose(x, [*range(rank - 2), rank - 1, rank - 2])
