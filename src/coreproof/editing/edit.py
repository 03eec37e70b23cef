"""edit: a model changed by a list of edits, each checked at once; the rest of the file stays byte for byte as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coreproof.conversion.coreml_to_onnx.boundary import FOREIGN
from coreproof.editing.arguments import require_arguments
from coreproof.editing.editor import Editor
from coreproof.editing.open import open_editor
from coreproof.editing.verbs.registry import VERBS
from coreproof.errors import CoreproofError, EditError
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.public import public
from coreproof.validation.problem import Problem


@dataclass(frozen=True)
class Edit:
    """One edit: a verb and its arguments, as a script of edits holds them. Arrays are allowed among the arguments.

    Example:
        >>> str(cp.Edit("rename", {"old": "y", "new": "z"}))
        'rename old y, new z'

    """

    verb: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.verb} " + ", ".join(f"{key} {_short(value)}" for key, value in self.arguments.items())


@dataclass(frozen=True)
class Change:
    """What one edit did: the layers that it touched, before and after, and the problems that the model has since.

    ``features_before`` and ``features_after`` are the inputs, outputs and labels that it touched, in words.
    """

    edit: Edit
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    problems: tuple[Problem, ...] = ()
    features_before: tuple[str, ...] = ()
    features_after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edited:
    """The new model, and what was changed. The model that was given is as it was."""

    model: Model
    changes: tuple[Change, ...]


@public
def edit(model: Model | str | Path, edits: Iterable[Edit], *, check: bool = True) -> Edited:
    """Applies ``edits`` in order to a copy of ``model``.

    The verbs are listed in ``coreproof.editing.verbs``. ``check``: names, ranks and shapes are looked at after every edit; a
    script may pass through models that do not run (cut here, connected there), but must not end in one
    that has a problem which the given model had not.

    Raises EditError for an unknown verb, layer, value or attribute, a name that is taken, or a model that is left with a new
    problem; the message names the edit by its number.

    Example:
        >>> edited = cp.edit("net.onnx", [cp.Edit("rename", {"old": "y", "new": "z"})])
        >>> edited.model.signature.outputs[0].name
        'z'

    """
    import coreproof.editing.verbs  # noqa: F401 - registers the verbs
    from coreproof.model.load import load

    edits = list(edits)
    require_arguments(VERBS, [(step.verb, step.arguments) for step in edits])
    whole = load(model)
    editor = open_editor(whole)
    known = set(_fatal(whole)) if check else set()
    changes = []
    for number, step in enumerate(edits, start=1):
        before, features = {node.name: node for node in editor.graph.nodes}, _features(editor.model)
        try:
            _apply(editor, step)
        except EditError as error:
            raise error.at(f"edit {number} ({step}){'' if error.where is None else f', {error.where}'}") from None
        after, fresh = {node.name: node for node in editor.graph.nodes}, _features(editor.model)
        changes.append(
            Change(
                step,
                tuple(node for name, node in before.items() if after.get(name) != node),
                tuple(node for name, node in after.items() if before.get(name) != node),
                tuple(p for p in _fatal(editor.model) if p not in known) if check else (),
                tuple(line for line in features if line not in fresh),
                tuple(line for line in fresh if line not in features),
            )
        )
    if changes and changes[-1].problems:
        raise _left_broken(changes)
    return Edited(editor.close(), tuple(changes))


def _features(model: Model) -> list[str]:
    """Inputs, outputs and labels, a line each."""
    signature = model.signature
    lines = [f"input {f}" for f in signature.inputs] + [f"output {f}" for f in signature.outputs]
    if signature.labels:
        lines.append(f"{len(signature.labels)} labels: {', '.join(map(str, signature.labels[:5]))}, ...")
    return lines


def _fatal(model: Model) -> list[Problem]:
    from coreproof.validation.validate import inspect

    return [problem for problem in inspect(model).problems if problem.fatal]


def _left_broken(changes: list[Change]) -> EditError:
    """The edit since which the model is broken, and what is wrong with it now."""
    first = len(changes)
    # back to the last edit behind which it ran: problems may come, go, and come again
    while first > 1 and changes[first - 2].problems:
        first -= 1
    problems = changes[-1].problems
    return EditError(
        f"the model would not run any more: {'; '.join(map(str, problems))}",
        where=f"since edit {first} ({changes[first - 1].edit})",
        fix="add the edits that put it right, or let it be written all the same with check = False (--force)",
    )


def _apply(editor: Editor, step: Edit) -> None:
    try:
        VERBS[step.verb](editor, **step.arguments)
    except CoreproofError:
        raise
    except FOREIGN as error:
        # a value that no signature describes (an attribute, a weight) is judged by the format's own library
        said = str(error).strip().splitlines()
        raise EditError(
            f"{step.verb} cannot be done with these arguments",
            found=said[-1] if said else type(error).__name__,
            fix="give the values that the format's own description of the operator names",
        ) from error


def _short(value: object) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype}[{'x'.join(map(str, value.shape))}]"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
