"""An order in which everything stands behind what it needs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Circle(Exception, Generic[T]):
    """Things that need each other; ``path`` leads from one of them back to it."""

    def __init__(self, path: list[T]) -> None:
        super().__init__()
        self.path = path


def behind_needs(things: Iterable[T], needs: Callable[[T], Iterable[T]]) -> list[T]:
    """The things, and all that they need, as near to the given order as that allows. Raises Circle.

    Depth first with a stack of its own: a chain of thousands is deeper than Python's.
    """
    order: list[T] = []
    done: dict[T, bool] = {}  # False: on the way down; whoever is met there closes a circle
    for root in things:
        path = [(root, iter(needs(root)))] if root not in done else []
        done.setdefault(root, False)
        while path:
            thing, rest = path[-1]
            following = next(rest, None)
            if following is None:
                done[thing] = True
                order.append(thing)
                path.pop()
            elif following not in done:
                done[following] = False
                path.append((following, iter(needs(following))))
            elif not done[following]:
                names = [each for each, _ in path]
                raise Circle([*names[names.index(following) :], following])
    return order
