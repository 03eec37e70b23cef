"""What a mutant is before it lies on disk: the files of a folder, by their names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Link:
    """A symbolic link in the place of a file."""

    target: str


@dataclass(frozen=True)
class Pipe:
    """A named pipe in the place of a file: who opens it waits for ever."""


Content = bytes | Link | Pipe
Files = dict[str, Content]


@dataclass(frozen=True)
class Case:
    """A healthy input: its files, and the one (or the folder, "" is all of it) that a verb is given."""

    name: str
    files: Mapping[str, Any]
    main: str
    weight: int = 1
    healthy: str = ""
    """What ``main`` was called before, where it is called otherwise now."""


def write(files: Mapping[str, Content], folder: Path) -> None:
    """Lays the files down. Names come from ``Case`` and from damage that keeps them inside."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.target)
        elif isinstance(content, Pipe):
            os.mkfifo(path)
        else:
            path.write_bytes(content)
            os.utime(path, (1_500_000_000, 1_500_000_000))  # a store remembers when a photo was written


def read(folder: Path) -> Files:
    """The files of a folder as ``write`` takes them."""
    found: Files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = Link(os.readlink(path))
        elif path.is_fifo():
            found[name] = Pipe()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found
