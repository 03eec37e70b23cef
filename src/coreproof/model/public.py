"""What a public verb is given, held to its signature: a value of another kind is an error that names the argument."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from inspect import Parameter, signature
from os import PathLike
from typing import ParamSpec, SupportsFloat, SupportsIndex, TypeVar

from coreproof.errors import InputError

_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")
_Kind = tuple[Callable[[object], bool], str]


def public(verb: Callable[_Given, _Made]) -> Callable[_Given, _Made]:
    """The verb, which says of an argument of another kind than its signature tells that it is one, before it does anything.

    Held are the kinds below and lists and dictionaries of them. An annotation that names anything else besides, a model or
    one of a list of words, is left to the verb, which says more of it. Raises InputError, which names the argument.
    """

    @wraps(verb)
    def held(*given: _Given.args, **named: _Given.kwargs) -> _Made:
        for argument, value in signature(verb).bind(*given, **named).arguments.items():
            known = _annotations(verb).get(argument)
            if known is not None and value is not known.default and not _fits(value, known.annotation):
                raise InputError(f"{argument} is {_spoken(known.annotation)}", found=repr(value)[:80])
        return verb(*given, **named)

    return held


@cache
def _annotations(verb: Callable[..., object]) -> dict[str, Parameter]:
    """The parameters that are held, their annotations as trees."""
    parameters = signature(verb).parameters.values()
    read = {p.name: p.replace(annotation=ast.parse(p.annotation, mode="eval").body) for p in parameters}
    return {name: p for name, p in read.items() if _known(p.annotation) and p.kind is not Parameter.VAR_KEYWORD}


def _of_class(name: str) -> _Kind:
    # by the class's name, because its module may be a heavy one that nobody has imported
    return lambda value: any(name == one.__name__ for one in type(value).__mro__), f"a coreproof.{name}"


def _is_logic(value: object) -> bool:
    return type(value).__name__ in ("bool", "bool_")  # NumPy's, whichever its version, too


def _is_number(value: object) -> bool:
    return isinstance(value, SupportsFloat) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, SupportsIndex) and not isinstance(value, bool)


def _is_path(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, PathLike) and isinstance(value.__fspath__(), str))


_KINDS: Mapping[str, _Kind] = {
    "bool": (_is_logic, "True or False"),
    "int": (_is_whole, "a whole number"),
    "float": (_is_number, "a number"),
    "str": (lambda value: isinstance(value, str), "a text"),
    "Path": (_is_path, "a path"),
    **dict.fromkeys(("Callable", "Progress", "Report", "Test", "CustomFunction"), (callable, "a function")),
    **{name: _of_class(name) for name in ("Edit", "Finding", "Lineup", "Photos", "PhotoSource")},
}
"""What a value of a kind is, and how a person calls it; aliases stand beside what they mean."""

_LISTS = ("Sequence", "Iterable")
_SAID_ELSEWHERE = (
    *("int", "int | None", "Sequence[str]", "Sequence[str] | None"),
    *("Mapping[str, ImageInput] | bool | None", "Comparison | InputComparison"),
)
"""``whole`` says the least number too, ``texts`` that labels are one a class; what else pictures may be, and where a page is."""


def _known(kind: ast.expr) -> bool:
    """Whether all that a kind names is known here."""
    if ast.unparse(kind) in _SAID_ELSEWHERE:
        return False
    match kind:
        case ast.BinOp(left=one, right=other):
            return _known(one) and _known(other)
        case ast.Constant(value=None):
            return True
        case ast.Name(id=name):
            return name in _KINDS
        case ast.Subscript(value=ast.Name(id=name)):
            return name in (*_LISTS, "Mapping", "Callable")
        case _:
            return False


def _fits(value: object, kind: ast.expr) -> bool:
    """Whether a value is of a kind. What is not known fits."""
    match kind:
        case ast.BinOp(left=one, right=other):
            return _fits(value, one) or _fits(value, other)
        case ast.Constant(value=None):
            return value is None
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _LISTS:
            if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
                return False
            # a generator gives what it holds once
            return not isinstance(value, list | tuple) or not _known(inner) or all(_fits(each, inner) for each in value)
        case ast.Subscript(value=ast.Name(id="Mapping")):
            return isinstance(value, Mapping)
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            return name not in _KINDS or _KINDS[name][0](value)
        case _:
            return True


def _spoken(kind: ast.expr) -> str:
    """A kind in a person's words."""
    match kind:
        case ast.BinOp(left=one, right=other):
            return f"{_spoken(one)} or {_spoken(other)}"
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _LISTS:
            return f"a list, each {_spoken(inner)}" if _known(inner) else "a list"
        case ast.Subscript(value=ast.Name(id="Mapping")):
            return "a dictionary by names"
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)) if name in _KINDS:
            return _KINDS[name][1]
        case _:
            return ast.unparse(kind)
