"""repeat: the command and the line-up of a page as they can be run elsewhere, without the folders of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

_QUOTED = re.compile(r"""(?P<quote>["'])(?P<text>[^"'\n]*)(?P=quote)""")


def repeatable(words: Sequence[str]) -> str:
    """A command line as one text; a path that only this machine has is told from this folder, or by its name."""
    return shlex.join(_word(word) for word in words)


def repeatable_lines(document: str) -> str:
    """A line-up's text, the same done to the texts in it."""
    return _QUOTED.sub(lambda found: found["quote"] + elsewhere(found["text"]) + found["quote"], document)


def _word(word: str) -> str:
    option, sign, value = word.partition("=")
    return f"{option}={elsewhere(value)}" if sign and option.startswith("--") else elsewhere(word)


def elsewhere(text: str) -> str:
    """A path as others have it: absolute ones from this folder where they lie in it, else their name alone; other text as it is.

    What is no path ("torchvision:resnet18", "s3://bucket/photos") stays; of "FOLDER/net.py:make" and "FILE?weights=FILE" each
    part is looked at.
    """
    if "://" in text:
        return text
    head, mark, weights = text.partition("?weights=")
    if mark:
        return f"{elsewhere(head)}{mark}{elsewhere(weights)}"
    if PureWindowsPath(text).drive:
        return PureWindowsPath(text).name or text
    if not PurePosixPath(text).is_absolute():
        return text
    path, here = Path(text), Path.cwd()
    if path.is_relative_to(here):
        return path.relative_to(here).as_posix()
    return path.name or "."
