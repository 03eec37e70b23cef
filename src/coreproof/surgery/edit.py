"""edit: a model changed by a list of edits, each checked at once; the rest of the file stays byte for byte as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.surgery.body import Body, open_body


@dataclass(frozen=True)
class Edit:
    """One edit: a verb and its arguments, as a script of edits holds them. Arrays are allowed among the arguments."""

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.verb} " + ", ".join(f"{key} {_short(value)}" for key, value in self.arguments.items())


@dataclass(frozen=True)
class Change:
    """What one edit did: the layers that it touched, before and after."""

    edit: Edit
    before: tuple[Node, ...]
    after: tuple[Node, ...]


@dataclass(frozen=True)
class Edited:
    """The new model, and what was changed. The model that was given is as it was."""

    model: Model
    changes: tuple[Change, ...]


Verb = Callable[..., None]
VERBS: dict[str, Verb] = {}
"""verb -> function of an open body and the edit's arguments; filled by the modules in ``surgery/verbs``."""


def verb(function: Verb) -> Verb:
    """Registers a verb of surgery under its function's name (a trailing underscore is dropped)."""
    VERBS[function.__name__.rstrip("_")] = function
    return function


def edit(model: Model | str | Path, edits: Iterable[Edit]) -> Edited:
    """Applies ``edits`` in order to a copy of ``model``.

    The verbs are listed in ``coreproof.surgery.verbs``. Raises EditError for an unknown verb, layer, value or attribute,
    a name that is taken, or a model that is left with a value which nothing makes and which was made before; the message
    names the edit by its number.
    """
    import coreproof.surgery.verbs  # noqa: F401 - registers the verbs
    from coreproof.model.load import load

    body = open_body(load(model))
    changes = []
    for number, step in enumerate(edits, start=1):
        before = {node.name: node for node in body.graph.nodes}
        try:
            _apply(body, step)
        except EditError as error:
            raise EditError(
                error.problem,
                where=f"edit {number} ({step}){'' if error.where is None else f', {error.where}'}",
                expected=error.expected,
                found=error.found,
                fix=error.fix,
            ) from None
        after = {node.name: node for node in body.graph.nodes}
        changes.append(
            Change(
                step,
                tuple(node for name, node in before.items() if after.get(name) != node),
                tuple(node for name, node in after.items() if before.get(name) != node),
            )
        )
    return Edited(body.close(), tuple(changes))


def _apply(body: Body, step: Edit) -> None:
    function = VERBS.get(step.verb)
    if function is None:
        raise EditError(f"there is no verb {step.verb!r}", expected=", ".join(sorted(VERBS)), found=step.verb)
    try:
        function(body, **step.arguments)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise EditError(f"{step.verb} does not take these arguments", found=str(error)) from None


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{value.dtype}[{'x'.join(map(str, value.shape))}]"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
