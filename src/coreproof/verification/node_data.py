"""The errors of a verification as node data for Model Explorer, which colours the graph by them.

The format is that of google-ai-edge/model-explorer's ``node_data_builder.GraphNodeData``: node identifiers or tensor names
with a value and colours. Both models' nodes are named, so that the file can be laid over the graph of either.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from coreproof.model.files.atomic import replacing
from coreproof.model.files.outputs import NODE_DATA
from coreproof.model.graph import Graph

if TYPE_CHECKING:
    from coreproof.verification.row import Row
    from coreproof.verification.verification import Verification

NOT_A_NUMBER = 1e9
"""Stands for an error that is none (other shapes, NaN on one side): Model Explorer takes numbers only."""

_AGREES = ("#e6f4ea", "#b7e1c1", "#81c995", "#fdd663")
"""Up to 1 %, 10 %, half and the whole of the tolerance."""
_DIVERGES = ("#f6aea9", "#ee675c", "#d93025")
"""Up to 10 times, 1000 times, and any more of the tolerance."""
_FIRST = "#7b1fa2"


def node_data(verification: Verification, graphs: tuple[Graph, ...] = ()) -> dict[str, object]:
    """GraphNodeData as JSON holds it: root-mean-square error as a share of the scale, by node and by value.

    ``graphs``: those of the two models; a node is coloured by the worst of its outputs. The first divergence is
    violet; what agrees is green to yellow by how much of its tolerance it uses, what does not is red.
    """
    first = verification.first_divergence
    results: dict[str, dict[str, object]] = {}
    worst: dict[str, float] = {}
    for row in verification.rows:
        entry = _result(row, row is first)
        for name in _names(row, graphs):
            # a node that makes several values is coloured by the worst of them
            if name not in worst or row.judgement.used > worst[name]:
                worst[name], results[name] = row.judgement.used, entry
    return {"results": results}


def write_node_data(
    verification: Verification, path: str | Path, graphs: tuple[Graph, ...] = (), *, replace: bool = False
) -> Path:
    """Writes ``node_data`` to a .json file, whole or not at all.

    Raises OutputExistsError where something else stands there, unless ``replace`` allows it.
    """
    with replacing(path, NODE_DATA, replace=replace) as fresh:
        fresh.write_text(json.dumps(node_data(verification, graphs), indent=1, allow_nan=False), encoding="utf-8")
    return Path(path)


def _names(row: Row, graphs: tuple[Graph, ...]) -> list[str]:
    # tensor names serve as well as node identifiers
    names = [row.candidate, row.reference]
    for graph in graphs:
        for value in (row.candidate, row.reference):
            node = graph.producer(value)
            if node is not None:
                names.append(node.name)
    return list(dict.fromkeys(names))


def _result(row: Row, first: bool) -> dict[str, object]:
    error = row.judgement.rms_relative_error
    value = error if math.isfinite(error) else NOT_A_NUMBER
    if first:
        return {"value": value, "bgColor": _FIRST, "textColor": "#ffffff"}
    used = row.judgement.used
    if row.agrees:
        return {"value": value, "bgColor": _AGREES[sum(used > limit for limit in (0.01, 0.1, 0.5))]}
    return {"value": value, "bgColor": _DIVERGES[sum(used > limit for limit in (10, 1000))]}
