"""Expressions of sizes: those that sympy writes pass, whatever else Python could evaluate does not, and nothing hangs or dies."""

from __future__ import annotations

import pytest

from coreproof.model.torch.expression import ExpressionError, check_expression


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0', positive=True, integer=True)",
        "Integer(-1)",
        "true",
        "Rational(-1, 2)",
        "Float('1.5', precision=53)",
        "FloorDiv(Symbol('s0', positive=True, integer=True), Integer(2))",
        "Add(Mul(Integer(2), Symbol('s0')), Integer(-1), evaluate=False)",
        "Pow(Add(Symbol('s0'), Integer(1)), Integer(2))",
        "StrictLessThan(Symbol('s0'), Integer(9))",
    ],
)
def test_what_sympy_writes_of_sizes_is_accepted(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (3, "int in the place"),
        ("factorial(Integer(9))", "'factorial'"),
        ("Integer(1)(Integer(2))", "'Call'"),
        ("Symbol('s0').x", "'.x'"),
        ("Symbol(f'a')", "Symbol"),
        ("Symbol(b'a')", "Symbol"),
        ("Symbol('s0', integer=Integer)", "neither true nor false"),
        ("Integer(1 if 1 else 2)", "whole number"),
        ("Integer(0x10)", "in an expression"),
        ("Integer(12345678901234567890)", "19 digits"),
        ("Integer(1, 2)", "Integer of 2 arguments"),
        ("Add()", "Add of 0 arguments"),
        ("Add(Integer(1), evaluate=Integer(1))", "evaluate"),
        ("Pow(Integer(2), Symbol('s0'))", "no whole number"),
        ("Pow(Integer(2), Integer(9))", "an exponent of 9"),
        ("Float('1', precision=65)", "64 bits"),
        ("Add(Integer(1)", "hold together"),
        ("Add" + "()" * 6000, "hold together|'Call'"),
        ("not " * 6000 + "true", "hold together|'UnaryOp'"),
        ("Add(" * 60 + "true" + ")" * 60, "more than 40 deep"),
        ("Add(" + "true," * 400 + ")", "more than 400 terms"),
        ("(" * 20_000, "hold together"),
        ("x" * 30_000, "30,000 characters"),
    ],
)
def test_whatever_else_is_refused_and_named(text: object, said: str) -> None:
    with pytest.raises(ExpressionError, match=said):
        check_expression(text)
