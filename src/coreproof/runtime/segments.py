"""segments: a graph cut into segments that follow each other, so that one pass over it brings out all inner values in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coreproof.runtime.skeleton import Skeleton


@dataclass(frozen=True)
class Segment:
    """The nodes that one group of values needs beyond the groups before it.

    ``makes`` are the values it brings out: those of its group, and those that later stretches read. ``reads`` are the
    inner values that earlier stretches made. ``dropped`` are the values that nobody asks for after it.
    """

    asked: tuple[str, ...]
    makes: tuple[str, ...]
    reads: tuple[str, ...]
    dropped: tuple[str, ...]


def segments(skeleton: Skeleton, groups: Sequence[Sequence[str]]) -> list[Segment]:
    """One stretch a group of values of the graph; every node is in one stretch, constants in all that read them."""
    made_in: dict[str, int] = {}
    needs: list[tuple[list[str], list[str]]] = []
    last: dict[str, int] = {}
    for at, group in enumerate(groups):
        # what was made stays where it was made; only nodes that are new are walked
        fresh = [name for name in group if name not in made_in]
        nodes = skeleton.before(fresh, made_in)
        own = {name for place in nodes for name in skeleton.nodes[place].output if name}
        reads = {n for place in nodes for n in skeleton.reads[place] if n not in own and n in made_in}
        last.update(dict.fromkeys((*reads, *group), at))
        made_in.update(dict.fromkeys((n for n in own if not skeleton.is_constant(n)), at))
        needs.append((fresh, sorted(reads)))
    makes: list[list[str]] = [[] for _ in groups]
    drops: list[list[str]] = [[] for _ in groups]
    for name, at in last.items():
        drops[at].append(name)
        # what an earlier stretch made, and this one needs, has to be handed out by that one
        if made_in.get(name, at) < at:
            makes[made_in[name]].append(name)
    return [
        Segment(tuple(group), tuple(dict.fromkeys([*fresh, *makes[at]])), tuple(reads), tuple(drops[at]))
        for at, (group, (fresh, reads)) in enumerate(zip(groups, needs, strict=True))
    ]
