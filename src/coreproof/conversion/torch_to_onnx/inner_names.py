"""Names of what is computed inside an exported graph, where the exporter gives two things one name, or another than the trace.

A buffer ``mean`` is an initializer of that name, and what ``x.mean(0)`` makes is called ``mean`` by the trace. The exporter calls
it ``mean_1`` then, which in the trace is what a second ``x.mean()`` makes: held against that, a right model was called wrong.
"""

from __future__ import annotations

import re
from collections import Counter

import onnx_ir as ir

from coreproof.model.formats.free_name import free_name

_TRACED = "pkg.torch.onnx.fx_node"
"""Where the exporter notes which step of the trace a node was made for."""
_NAME = re.compile(r"%(\w+)")


def name_as_traced(graph: ir.Graph) -> dict[str, str]:
    """Gives each inner value the name that it has in the trace, or one that nothing has there; returns the names in the trace.

    The exporter gives inputs their names last, and asks nobody for them: what is computed may have one of these, too.
    """
    inner = [(node, value) for node in graph for value in node.outputs if value.name]
    given = {v.name for v in graph.inputs}
    renamed = {value: traced for node, value in inner if (traced := _renamed_from(node, value, given)) is not None}
    several = {traced for traced, count in Counter(renamed.values()).items() if count > 1}
    # of one step that gives several, which is which is not said
    renamed = {value: traced for value, traced in renamed.items() if traced not in several or value.name in given}
    taken = given | set(graph.initializers) | {value.name for _, value in inner if value not in renamed}
    for value, traced in renamed.items():
        value.name = traced if traced not in taken else free_name(f"{traced}_inside", taken)
        taken.add(value.name)
    return {value.name or "": renamed.get(value, value.name or "") for _, value in inner}


def _renamed_from(node: ir.Node, value: ir.Value, given: set[str | None]) -> str | None:
    """The name in the trace of a value that has another one, or an input's; None of one that is called as it is."""
    told = _NAME.match(node.metadata_props.get(_TRACED, ""))
    if told is not None and re.fullmatch(rf"{told[1]}_\d+", value.name or ""):
        return told[1]
    return value.name if value.name in given else None
