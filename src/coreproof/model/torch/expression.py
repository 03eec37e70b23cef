"""Sizes that a .pt2 computes, as PyTorch writes them: parsed by us, never evaluated, and bounded.

PyTorch stores ``x.shape[0] // 2`` as the text "FloorDiv(Symbol('s0', positive=True, integer=True), Integer(2))" (sympy's
srepr) and reads it through ``sympy.sympify``, which is Python's ``eval``. Only a text that this grammar accepts whole gets
there: nested calls of a closed list, whole numbers, and symbols with assumptions that are true or false.
"""

from __future__ import annotations

import math
import re

DEPTH = 40
TERMS = 400
DIGITS = 19
"""Of a whole number: as many as 64 bits hold."""
EXPONENT = 8
PRODUCTS = 500
POWER = 64
"""Of all exponents that stand inside one another, multiplied: numbers stay short."""

_ANY = 64
_RELATIONS = (
    "Equality",
    "Unequality",
    "GreaterThan",
    "LessThan",
    "StrictGreaterThan",
    "StrictLessThan",
    "Eq",
    "Ne",
    "Ge",
    "Le",
    "Gt",
    "Lt",
)
_CALLS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("Add", "Mul", "Min", "Max", "And", "Or"), (1, _ANY)),
    **dict.fromkeys(("FloorDiv", "CleanDiv", "CeilDiv", "Mod", "PythonMod", "IntTrueDiv", "FloatTrueDiv"), (2, 2)),
    **dict.fromkeys(("Pow", "PowByNatural"), (2, 2)),
    **dict.fromkeys(("ToFloat", "TruncToInt", "TruncToFloat", "FloorToInt", "CeilToInt", "RoundToInt", "Not"), (1, 1)),
    **dict.fromkeys(_RELATIONS, (2, 2)),
}
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
_WORDS = frozenset((*_CALLS, "Integer", "Rational", "Float", "Symbol", "true", "false"))
_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*)|(-?[0-9]+)|'([A-Za-z0-9_.+-]*)'|([(),=]))")
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
    reader = _Reader(_tokens(text))
    reader.expression(DEPTH, 1)
    reader.end()


_Token = tuple[str, str]


def _tokens(text: str) -> list[_Token]:
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"{text[at : at + 40]!r} in an expression")
        kind = ("word", "number", "text", "sign")[(match.lastindex or 1) - 1]
        found.append((kind, match[match.lastindex or 1]))
        at = match.end()
    return found


class _Reader:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._terms = 0

    def expression(self, depth: int, power: int) -> int:
        """Reads one; gives how many products it is a sum of when it is multiplied out, which sympy does to divide."""
        products = self._expression(depth, power)
        if products > PRODUCTS:
            raise ExpressionError(f"a sum of more than {PRODUCTS:,} products when it is multiplied out")
        return products

    def _expression(self, depth: int, power: int) -> int:
        self._terms += 1
        if self._terms > TERMS:
            raise ExpressionError(f"an expression of more than {TERMS} terms")
        if depth == 0:
            raise ExpressionError(f"calls nested more than {DEPTH} deep")
        name = self._take("word")
        if name in ("true", "false"):
            return 1
        if name not in _WORDS:
            raise ExpressionError(f"{name!r} in an expression")
        self._sign("(")
        products = 1
        if name == "Integer":
            self._integer()
        elif name == "Rational":
            self._integer()
            self._sign(",")
            self._integer()
        elif name == "Float":
            self._float()
        elif name == "Symbol":
            self._symbol()
        elif name in ("Pow", "PowByNatural"):
            products = self._power(depth, power)
        else:
            products = self._arguments(name, depth, power)
        self._sign(")")
        return products

    def end(self) -> None:
        if self._at != len(self._tokens):
            raise ExpressionError(f"{self._tokens[self._at][1]!r} behind an expression")

    def _arguments(self, name: str, depth: int, power: int) -> int:
        fewest, most = _CALLS[name]
        products = [self.expression(depth - 1, power)]
        while self._next(","):
            self._at += 1
            if self._next("evaluate", "word"):  # sympy writes evaluate=False for what it must not simplify
                self._at += 1
                self._sign("=")
                if self._take("word") not in ("True", "False"):
                    raise ExpressionError("evaluate is true or false")
                break
            products.append(self.expression(depth - 1, power))
        if not fewest <= len(products) <= most:
            raise ExpressionError(f"{name} of {len(products)} arguments")
        return sum(products) if name == "Add" else math.prod(products) if name == "Mul" else 1

    def _power(self, depth: int, power: int) -> int:
        """The base is read last, because how high it may be raised is known from the exponent alone."""
        base = self._at
        self._skip_one()
        self._sign(",")
        if self._take("word") != "Integer":
            raise ExpressionError("an exponent that is no whole number")
        self._sign("(")
        exponent = abs(self._integer())
        self._sign(")")
        if exponent > EXPONENT or power * max(exponent, 1) > POWER:
            raise ExpressionError(f"an exponent of {exponent}" + (" inside another" if power > 1 else ""))
        behind, self._at = self._at, base
        products = self.expression(depth - 1, power * max(exponent, 1))
        if not self._next(","):
            raise ExpressionError("Pow of something else than two arguments")
        self._at = behind
        return int(products**exponent)

    def _skip_one(self) -> None:
        """Goes behind one argument without judging it."""
        nesting = 0
        while self._at < len(self._tokens):
            kind, sign = self._tokens[self._at]
            if kind == "sign":
                if nesting == 0 and sign in (",", ")"):
                    return
                nesting += {"(": 1, ")": -1}.get(sign, 0)
            self._at += 1

    def _integer(self) -> int:
        number = self._take("number")
        if len(number.lstrip("-")) > DIGITS:
            raise ExpressionError(f"a number of {len(number)} digits")
        return int(number)

    def _float(self) -> None:
        number = self._take("text")
        if _FLOAT.fullmatch(number) is None:
            raise ExpressionError(f"Float({number!r})")
        while self._next(","):
            self._at += 1
            if self._take("word") not in ("precision", "dps"):
                raise ExpressionError("Float with something else than its precision")
            self._sign("=")
            if not 0 < self._integer() <= 64:
                raise ExpressionError("Float of more than 64 bits")

    def _symbol(self) -> None:
        name = self._take("text")
        if _SYMBOL.fullmatch(name) is None or name in _WORDS:
            raise ExpressionError(f"a symbol called {name!r}")
        while self._next(","):
            self._at += 1
            assumption = self._take("word")
            self._sign("=")
            value = self._take("word")
            if assumption not in _ASSUMPTIONS or value not in ("True", "False"):
                raise ExpressionError(f"a symbol with {assumption}={value}")

    def _next(self, text: str, kind: str = "sign") -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at] == (kind, text)

    def _take(self, kind: str) -> str:
        if self._at >= len(self._tokens):
            raise ExpressionError("an expression that breaks off")
        found, text = self._tokens[self._at]
        if found != kind:
            raise ExpressionError(f"{text!r} where a {kind} should stand")
        self._at += 1
        return text

    def _sign(self, sign: str) -> None:
        if not self._next(sign):
            found = self._tokens[self._at][1] if self._at < len(self._tokens) else "the end"
            raise ExpressionError(f"{found!r} where {sign!r} should stand")
        self._at += 1
