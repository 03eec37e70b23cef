"""Arguments that are one of a list: the same words and the same error in Python and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coreproof.errors import InputError

PRECISIONS = ("fp16", "fp32")
OTHER_NAMES = {"float16": "fp16", "float32": "fp32"}
"""What others call the two arithmetics; taken beside ours wherever one is named."""


def one_of(value: object, allowed: Sequence[str], argument: str, other_names: Mapping[str, str] = OTHER_NAMES) -> Any:
    """``value`` as one of ``allowed``, which it may also be called by another name.

    Raises InputError, which names the argument and the whole list.
    """
    named = other_names.get(value, value) if isinstance(value, str) else value
    if not isinstance(named, str) or named not in allowed:
        raise InputError(f"{argument} does not know {value!r}", expected=", ".join(allowed))
    return named
