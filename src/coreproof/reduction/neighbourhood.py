"""around: a layer and what surrounds it, as a model of its own: what a person wants to look at in a large one."""

from __future__ import annotations

from coreproof.editing.edit import Edit, edit
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node


def around(model: Model, layer: str, steps: int = 3) -> Model:
    """The layer and the layers up to ``steps`` before and behind it.

    Raises InputError where there is no such layer, EditError where the shapes at its borders are not known.
    """
    graph = model.graph
    middle = graph.find(layer, model.name)[0]
    kept = _surrounding(graph, middle, steps)
    made = {name for node in kept for name in node.outputs}
    behind = [name for name in made if any(n.name not in {k.name for k in kept} for n in graph.consumers(name))]
    ends = [name for node in kept for name in node.outputs if name in behind or not graph.consumers(name)]
    begins = {name for node in kept for name in node.inputs if name not in made and _computed(graph, name)}
    ends = [name for name in dict.fromkeys([*ends, *(o for o in graph.outputs if o in made)]) if name not in begins]
    return edit(model, [Edit("extract", {"inputs": sorted(begins), "outputs": ends})], check=False).model


def _surrounding(graph: Graph, middle: Node, steps: int) -> list[Node]:
    kept = {middle.name: middle}
    front = [middle]
    for _ in range(steps):
        beside = [
            *(maker for node in front for name in node.inputs if (maker := graph.producer(name)) is not None),
            *(reader for node in front for name in node.outputs for reader in graph.consumers(name)),
        ]
        front = [node for node in {n.name: n for n in beside}.values() if node.name not in kept]
        kept |= {node.name: node for node in front}
    return [node for node in graph.nodes if node.name in kept]


def _computed(graph: Graph, name: str) -> bool:
    """Whether a value is an input or depends on one; what is made from weights alone stays inside."""
    behind = {read for node in graph.between((), [name]) for read in graph.reads(node)}
    return not behind.union([name]).isdisjoint(graph.inputs)
