"""What a TorchScript module tells of itself: what its forward takes, and its operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from coreproof.model.graph import Graph, Node

if TYPE_CHECKING:
    import torch

_SILENT = frozenset(
    ("prim::Constant", "prim::GetAttr", "prim::ListConstruct", "prim::TupleConstruct", "prim::TupleUnpack")
)
"""Nodes that compute nothing."""


def is_scripted(module: torch.nn.Module) -> bool:
    """Whether a module is a TorchScript program, traced or scripted, which torch.export does not read."""
    return any(
        f"{kind.__module__}.{kind.__qualname__}" == "torch.jit._script.ScriptModule" for kind in type(module).__mro__
    )


def arguments_of(module: torch.nn.Module) -> Mapping[str, str]:
    """What ``forward`` takes, with the type of each: its schema has what Python's signature would."""
    return {a.name: str(a.type) for a in module.forward.schema.arguments if a.name != "self"}


def script_graph(module: torch.nn.Module, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Graph:
    """The operators of a TorchScript program, those of the modules that it calls among them; branches and loops hold blocks."""
    return Graph(name, tuple(_nodes(module.inlined_graph)), inputs, outputs)


def _nodes(block: object) -> Iterator[Node]:
    for node in block.nodes():  # type: ignore[attr-defined]
        kind = node.kind()
        if kind in _SILENT:
            continue
        outputs = tuple(o.debugName() for o in node.outputs())
        inner = tuple(Graph("", tuple(_nodes(b)), (), tuple(o.debugName() for o in b.outputs())) for b in node.blocks())
        yield Node(
            name=outputs[0] if outputs else kind,
            operator=kind,
            inputs=tuple(i.debugName() for i in node.inputs() if i.node().kind() not in _SILENT),
            outputs=outputs,
            blocks=inner,
        )
