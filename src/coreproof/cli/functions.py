"""Packages of several functions on the command line: each of them in turn, unless one is named (``llm.mlpackage#decode``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from coreproof.cli.say import say, say_document
from coreproof.errors import InputError

if TYPE_CHECKING:
    from coreproof.model.base import Model


class Told(Protocol):
    """What a verb finds of one function."""

    def to_json(self) -> object:
        """As a document."""


_Found = TypeVar("_Found", bound=Told)


def tell_each(found: Mapping[str, _Found], show: Callable[[_Found], object], *, as_json: bool) -> None:
    """Prints what was found of each function: as ``show`` does, or as one document."""
    if as_json:
        say_document("functions", {"functions": {name: each.to_json() for name, each in found.items()}})
        return
    for name, each in found.items():
        say(f"function {name}")
        show(each)


def each_function(model: Model) -> dict[str, Model]:
    """The functions of a package that has several, by name, the default one first; empty where one was named, or there is one."""
    names = model.functions
    if len(names) < 2 or model.at_a_function:
        return {}
    return {name: model.at_function(name) for name in names}


def function_pairs(before: Model, after: Model) -> dict[str, tuple[Model, Model]]:
    """Of two packages with several functions those of the same name, of one such and another model each with that; else none.

    Raises InputError where two packages have no function in common.
    """
    one, other = each_function(before), each_function(after)
    if not one and not other:
        return {}
    if one and other:
        pairs = {name: (model, other[name]) for name, model in one.items() if name in other}
        if not pairs:
            raise InputError(
                "the two packages have no function in common",
                expected=", ".join(one),
                found=", ".join(other),
                fix="name one of each: MODEL.mlpackage#FUNCTION",
            )
        return pairs
    raise InputError(
        "one of the two is a package of several functions",
        where=(before if one else after).name,
        expected="the function that the other model should equal",
        found=", ".join(one or other),
        fix=f"name it: {(before if one else after).path or 'MODEL.mlpackage'}#{next(iter(one or other))}",
    )
