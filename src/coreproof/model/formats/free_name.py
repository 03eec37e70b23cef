"""A name that is still free in a graph, like the one wished for."""

from __future__ import annotations

from collections.abc import Container


def free_name(wish: str, taken: Container[str | None], first: int = 1, sign: str = "_") -> str:
    """``wish``, or ``wish_1``, ``wish_2``, ... where that is taken; ``first`` is the number to begin with, "_" the ``sign``."""
    name, number = wish, first
    while name in taken:
        name, number = f"{wish}{sign}{number}", number + 1
    return name
