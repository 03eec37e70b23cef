"""Verbs on features: retype, reshape, relabel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coreproof.editing.editor import Editor
from coreproof.editing.interface import Reshaped, Retyped
from coreproof.editing.verbs.registry import verb
from coreproof.errors import EditError
from coreproof.model.files.label_file import read_label_file


@verb
def retype(
    editor: Editor,
    feature: str,
    kind: str | None = None,
    colour: str | None = None,
    scale: float | None = None,
    bias: Sequence[float] | float | None = None,
    dtype: str | None = None,
) -> None:
    """Makes a feature an image or a tensor (a multi-array), or gives a multi-array another dtype (float16, float32, ...).

    An image input is multiplied by ``scale``, then ``bias`` is added (one number, or one a channel in the order of
    ``colour``: RGB, BGR or GRAY). An input that becomes a tensor is fed what the network saw behind them.
    """
    wanted = Retyped(kind, colour, scale, bias, dtype)
    if wanted == Retyped():
        raise EditError(
            f"retype does not say what {feature!r} is to become",
            expected="kind (image or tensor), colour, scale, bias or dtype",
        )
    editor.interface.retype(feature, wanted)


@verb
def reshape(
    editor: Editor,
    feature: str,
    shape: Sequence[int] | None = None,
    enumerated: Sequence[Sequence[int]] = (),
    ranges: Sequence[Sequence[int]] = (),
) -> None:
    """Gives an input another shape; several (``enumerated``); or a range for each length (``ranges``: low, high; -1: no end).

    Of an image, shapes are [height, width]. With several or ranges, ``shape`` is the one that is meant when nothing is said.
    """
    if shape is None and not enumerated and not ranges:
        raise EditError(f"reshape does not say how {feature!r} is to be", expected="shape, enumerated or ranges")
    editor.interface.reshape(feature, Reshaped(shape, enumerated, ranges))


@verb
def relabel(editor: Editor, labels: Sequence[str] | Sequence[int] | str) -> None:
    """Gives a classifier other labels, in the order of its scores: a list, or a file (one a line, numbered, JSON or CSV)."""
    editor.interface.relabel(read_labels(labels) if isinstance(labels, str) else labels)


def read_labels(path: str | Path) -> list[str] | list[int]:
    """The labels of a file, as ``--labels`` reads them: one a line, numbered, JSON or CSV. Raises EditError."""
    labels = read_label_file(Path(path), EditError.of_file("the labels cannot be read", Path(path)))
    whole = [label for label in labels if isinstance(label, int)]
    return whole if len(whole) == len(labels) else [str(label) for label in labels]
