"""The arguments of edits, held against the signatures of their verbs before anything runs: each under its edit's number."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from inspect import Parameter
from typing import Union, get_args, get_origin, get_type_hints

import numpy as np

from coreproof.editing.verbs.registry import parameters
from coreproof.errors import EditError
from coreproof.model.files.entries import kind, short

_WORDS: Mapping[object, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    types.NoneType: "nothing",
}


def require_arguments(
    verbs: Mapping[str, Callable[..., None]], edits: Iterable[tuple[str, Mapping[str, object]]]
) -> None:
    """Raises EditError, which names every argument that a verb does not take, that is missing, or of another type."""
    problems: list[tuple[str, str, str]] = []
    for number, (verb, arguments) in enumerate(edits, start=1):
        place = f"edit {number} ({short_text(verb)})"
        function = verbs.get(verb) if isinstance(verb, str) else None
        if function is None:
            problems.append((place, f"there is no verb {verb!r}", ", ".join(sorted(verbs))))
            continue
        problems += [(place, said, expected) for said, expected in _problems(verb, function, arguments)]
    if problems:
        first = problems[0]
        raise EditError(
            first[1],
            where=first[0],
            expected=first[2],
            found="; ".join(f"{place}: {said}" for place, said, _ in problems[:8]) if len(problems) > 1 else None,
            fix="`coreproof edit --verbs` lists the verbs and what each takes",
        )


def short_text(value: object) -> str:
    """A verb as it is called in messages."""
    return value if isinstance(value, str) and len(value) < 80 else short(value)


def _problems(verb: str, function: Callable[..., None], arguments: Mapping[str, object]) -> list[tuple[str, str]]:
    known = parameters(function)
    named = {p.name: p for p in known if p.kind is not Parameter.VAR_KEYWORD}
    free = len(named) < len(known)
    takes = ", ".join(named) + (" and the operator's own" if free else "")
    found = [
        (f"{verb} does not take these arguments: {name!r} is missing", takes)
        for name, parameter in named.items()
        if name not in arguments and parameter.default is Parameter.empty
    ]
    for name, value in arguments.items():
        if name in named:
            wanted = _hints(function)[name]
            if not _fits(wanted, value):
                found.append((f"{verb}: {name!r} is {_told(value)}", f"{name}: {_words(wanted)}"))
        elif not free or name == "editor":
            found.append((f"{verb} does not take these arguments: there is no {name!r}", takes))
    return found


@cache
def _hints(function: Callable[..., None]) -> dict[str, object]:
    return get_type_hints(function)


def _fits(wanted: object, value: object) -> bool:
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return any(_fits(one, value) for one in get_args(wanted))
    if origin is not None and issubclass(origin, Mapping):
        key, held = get_args(wanted)
        return isinstance(value, Mapping) and all(_fits(key, k) and _fits(held, v) for k, v in value.items())
    if origin is not None and issubclass(origin, Sequence):
        (held,) = get_args(wanted)
        is_list = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
        return isinstance(value, Iterable) and is_list and all(_fits(held, v) for v in value)
    # True is an int to Python and not to a reader; beyond 64 bits no format holds a whole number
    if wanted is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool) and abs(int(value)) < 2**63
    if wanted is float:
        return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if wanted is bool:
        return isinstance(value, bool | np.bool_)
    return isinstance(wanted, type) and isinstance(value, wanted)


def _words(wanted: object) -> str:
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in get_args(wanted))
    if origin is not None and issubclass(origin, Mapping):
        return "a table"
    if origin is not None and issubclass(origin, Sequence):
        return f"a list (of {_words(get_args(wanted)[0])} each)"
    return _WORDS.get(wanted, "anything")


def _told(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array, {value.dtype}{list(value.shape)}"
    return f"{kind(value)}: {short(value)}"
