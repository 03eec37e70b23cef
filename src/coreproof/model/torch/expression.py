"""Sizes that a .pt2 computes, as PyTorch writes them: parsed, never evaluated, and bounded.

PyTorch stores ``x.shape[0] // 2`` as the text "FloorDiv(Symbol('s0', positive=True, integer=True), Integer(2))" (sympy's
srepr) and reads it through ``sympy.sympify``, which is Python's ``eval``. So Python's own
parser, which runs nothing, reads it first, and only what is known here gets to sympy: nested calls of a closed list, whole
numbers, and symbols with assumptions that are true or false.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from itertools import count

DEPTH = 40
TERMS = 400
DIGITS = 19
"""Of a whole number: as many as 64 bits hold."""
EXPONENT = 8
PRODUCTS = 500
POWER = 64
"""Of all exponents that stand inside one another, multiplied: numbers stay short."""

_ANY = 64
_CALLS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("Add", "Mul", "Min", "Max", "And", "Or"), (1, _ANY)),
    **dict.fromkeys(("FloorDiv", "CleanDiv", "CeilDiv", "Mod", "PythonMod", "IntTrueDiv", "FloatTrueDiv"), (2, 2)),
    **dict.fromkeys(("ToFloat", "TruncToInt", "TruncToFloat", "FloorToInt", "CeilToInt", "RoundToInt", "Not"), (1, 1)),
    **dict.fromkeys(("Equality", "Unequality", "Eq", "Ne", "Ge", "Le", "Gt", "Lt"), (2, 2)),
    **dict.fromkeys(("GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan"), (2, 2)),
}
"""Operator -> how few and how many arguments it takes."""
_POWERS = ("Pow", "PowByNatural")
_NUMBERS = {"Integer": 1, "Rational": 2}
_ASSUMPTIONS = frozenset(
    (
        "integer",
        "positive",
        "negative",
        "nonnegative",
        "nonpositive",
        "nonzero",
        "zero",
        "real",
        "finite",
        "commutative",
    )
)
_WORDS = frozenset((*_CALLS, *_POWERS, *_NUMBERS, "Float", "Symbol", "true", "false"))
_TEXT = re.compile(
    r"(?:[A-Za-z_][A-Za-z0-9_]*+|(?:(?<=\()-|(?<=, )-)?[0-9]++(?![A-Za-z_])|'[A-Za-z0-9_.+-]*+'|[(),=]|\s)*+"
)
"""Names, whole numbers, plain texts, brackets; no operator, and a minus before a number alone."""
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_FLOAT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{0,40})?(e[+-]?[0-9]{1,3})?")


class ExpressionError(ValueError):
    """A text that is no expression as PyTorch writes them; its message says what was found."""


def check_expression(text: object) -> None:
    """Raises ExpressionError unless ``text`` is an expression of the closed list, within the bounds."""
    if not isinstance(text, str):
        raise ExpressionError(f"{type(text).__name__} in the place of an expression")
    if len(text) > 64 * TERMS:
        raise ExpressionError(f"an expression of {len(text):,} characters")
    known = _TEXT.match(text)
    if known is not None and known.end() < len(text):
        raise ExpressionError(f"{text[known.end() : known.end() + 40]!r} in an expression")
    try:
        tree = ast.parse(text.strip(), mode="eval")  # builds a tree, and runs nothing
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # the last two: of calls nested without end
        raise ExpressionError(f"an expression that does not hold together: {error}") from None
    _products(tree.body, DEPTH, 1, count(1))


def _products(node: ast.expr, depth: int, power: int, terms: Iterator[int]) -> int:
    """How many products an accepted expression is a sum of when it is multiplied out, which sympy does to divide.

    ``depth`` is how many calls may still nest, ``power`` the product of the exponents around it, ``terms`` counts.
    """
    if next(terms) > TERMS:
        raise ExpressionError(f"an expression of more than {TERMS} terms")
    if depth == 0:
        raise ExpressionError(f"calls nested more than {DEPTH} deep")
    if isinstance(node, ast.Name) and node.id in ("true", "false"):
        return 1
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _WORDS:
        found = node.func if isinstance(node, ast.Call) else node
        raise ExpressionError(f"{found.id if isinstance(found, ast.Name) else type(found).__name__!r} in an expression")
    name = node.func.id
    if name not in _CALLS and name not in _POWERS:
        _check_leaf(name, node)
        return 1
    if name in _POWERS:
        products = _raised(node, depth, power, terms)
    else:
        each = [_products(argument, depth - 1, power, terms) for argument in node.args]
        fewest, most = _CALLS[name]
        if not fewest <= len(each) <= most:
            raise ExpressionError(f"{name} of {len(each)} arguments")
        if any(word.arg != "evaluate" or not _is_flag(word.value) for word in node.keywords):
            raise ExpressionError(
                "evaluate is true or false"
            )  # sympy writes evaluate=False for what it must not simplify
        products = sum(each) if name == "Add" else math.prod(each) if name == "Mul" else 1
    if products > PRODUCTS:
        raise ExpressionError(f"a sum of more than {PRODUCTS:,} products when it is multiplied out")
    return products


def _raised(node: ast.Call, depth: int, power: int, terms: Iterator[int]) -> int:
    if len(node.args) != 2 or node.keywords:
        raise ExpressionError("Pow of something else than two arguments")
    base, raised = node.args
    if not isinstance(raised, ast.Call) or not isinstance(raised.func, ast.Name) or raised.func.id != "Integer":
        raise ExpressionError("an exponent that is no whole number")
    _check_leaf("Integer", raised)
    exponent = abs(_whole(raised.args[0]))
    if exponent > EXPONENT or power * max(exponent, 1) > POWER:
        raise ExpressionError(f"an exponent of {exponent}" + (" inside another" if power > 1 else ""))
    return int(_products(base, depth - 1, power * max(exponent, 1), terms) ** exponent)


def _check_leaf(name: str, node: ast.Call) -> None:
    """A number, or a symbol with what is assumed of it."""
    if name in _NUMBERS:
        if len(node.args) != _NUMBERS[name] or node.keywords:
            raise ExpressionError(f"{name} of {len(node.args)} arguments")
        for argument in node.args:
            _whole(argument)
        return
    text = node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) else None
    pattern = _FLOAT if name == "Float" else _SYMBOL
    if not isinstance(text, str) or pattern.fullmatch(text) is None or text in _WORDS:
        raise ExpressionError(f"{name}({text!r})")
    for word in node.keywords:
        if name == "Symbol" and not (word.arg in _ASSUMPTIONS and _is_flag(word.value)):
            raise ExpressionError(f"a symbol with {word.arg}, which is not known or neither true nor false")
        if name == "Float" and not (word.arg in ("precision", "dps") and 0 < _whole(word.value) <= 64):
            raise ExpressionError("Float with something else than its precision, or of more than 64 bits")


def _whole(node: ast.expr) -> int:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    held = node.operand if isinstance(node, ast.UnaryOp) else node
    if not isinstance(held, ast.Constant) or type(held.value) is not int or held.value >= 10**DIGITS:
        raise ExpressionError(f"something else than a whole number of at most {DIGITS} digits")
    return -held.value if negative else held.value


def _is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)
