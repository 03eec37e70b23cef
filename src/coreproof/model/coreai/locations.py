"""Where an operation comes from, as the text of its MLIR location says it: read, and written.

coreai-torch notes of each operation which node of the ExportedProgram it belongs to, and of the last one of a node that its
results are that node's::

    #debuginfo.location<loc("linear.py":134:0) in @main metadata = [<"sources": [{id = 18 : ui64, identifiers = ["addmm"],
    name = "torch"}]>, <"output_maps": [{source = {id = 18 : ui64, level = "torch", output = 0 : ui32}, target = {level =
    "coreai", output = 0 : ui32}}]>, <"call_stack": ["Linear$1", "Net$1"]>]>

coreproof notes the names of an operation's results in the same words, which are those that Apple's format keeps: MLIR's own
locations that are names are refused when a program is stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NAMED = re.compile(r'loc\("((?:[^"\\]|\\.)*)"(?:\)|\()')
_PLACE = re.compile(r'loc\("((?:[^"\\]|\\.)*)":(\d+):\d+')
_SOURCES = re.compile(r'\{id = (\d+) : ui64, identifiers = \["([^"]*)"')
_MAPS = re.compile(
    r'source = \{id = (\d+) : ui64, level = "[a-z]+", output = (\d+) : ui32\}, '
    r'target = \{level = "coreai", output = (\d+) : ui32\}'
)
_STACK = re.compile(r'<"call_stack": \["([^"]*)"')


_OURS = 'name = "coreproof"}'


_WHOLE = re.compile(r"\S*\.location<loc\(.*?\}\]>\]>?:? ?", re.DOTALL)


@dataclass(frozen=True)
class Location:
    """``made``: by the place of a result, the name that the source has for it. ``source``: where in the source, in words."""

    made: Mapping[int, str] = field(default_factory=dict)
    source: str | None = None


def read_location(text: str) -> Location:
    """What the text of a location says; nothing of one that says nothing."""
    named = _NAMED.search(text)
    if named is not None and named[1] not in ("", "-"):
        return Location({0: named[1]}, None)
    identifiers = dict(_SOURCES.findall(text))
    made = {
        int(place): identifiers[node] if output == "0" else f"{identifiers[node]}_{output}"
        for node, output, place in _MAPS.findall(text)
        if node in identifiers
    }
    stack, place = _STACK.search(text), _PLACE.search(text)
    if _OURS in text:
        return Location(made, None)
    module = "" if stack is None else stack[1].partition("$")[0]
    told = (
        ""
        if place is None or place[1] in ("", "-")
        else f"{place[1].replace(chr(92), '/').rsplit('/', 1)[-1]}:{place[2]}"
    )
    words = [word for word in (module, next(iter(identifiers.values()), ""), told) if word]
    return Location(made, ", ".join(words) or None)


def location_of(names: Mapping[int, str]) -> str:
    """The text of the location of an operation whose results bear these names, by their places."""
    sources = ", ".join(f'{{id = {i} : ui64, identifiers = ["{name}"], {_OURS}' for i, name in names.items())
    maps = ", ".join(
        f'{{source = {{id = {i} : ui64, level = "coreproof", output = 0 : ui32}}, '
        f'target = {{level = "coreai", output = {i} : ui32}}}}'
        for i in names
    )
    said = f'<"sources": [{sources}]>, <"output_maps": [{maps}]>'
    return f'#debuginfo.location<loc("-":0:0) in unit metadata = [{said}]>'


def without_locations(message: str) -> str:
    """What the bindings say of an operation, without where it comes from, which is long and names our own values."""
    return _WHOLE.sub("", message)
