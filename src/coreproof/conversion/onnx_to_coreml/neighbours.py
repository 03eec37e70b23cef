"""scikit-learn's KNNImputer, as skl2onnx writes it, over all rows alike.

skl2onnx picks the rows and columns with something missing, as many as there are in what is fed: Core ML has no empty arrays,
and the branch for a row without a neighbour hands on another rank. Over all rows the same numbers need neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.model.onnx.constants import known_tensor

_COLUMN, _DISTANCES = "knn_imputer_column", "dist_nan_euclidean"
_OPERANDS = 10
"""Of the function for a column: its number, x, distances, what of the table is there and what is missing, a map of rows, what is
missing of x, its rows, the table, how many neighbours."""


def write_out_imputed(model: ir.Model) -> None:
    """Puts each column that neighbours fill in where it is called, computed for all rows; what is written otherwise stays."""
    for node in [n for n in model.graph if n.op_type == _COLUMN and len(n.inputs) == _OPERANDS]:
        column = _column_of(node)
        fed = _fed(node.inputs[2])
        if column is None or fed is None or node.inputs[1] is None or node.inputs[6] is None:
            continue
        made = _imputed(column, fed, node.inputs[1], node.inputs[6])
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], made, node.outputs, [made[-1].outputs[0]])


class _Column:
    """Of one column the rows of the table that have it, what they have there, and how many of them are asked."""

    def __init__(self, number: int, table: np.ndarray, missing: np.ndarray, neighbours: int) -> None:
        self.number, self.features = number, table.shape[1]
        rows = np.flatnonzero(~missing[:, number])
        self.table, self.missing = table[rows], missing[rows]
        self.values = self.table[:, number]
        self.asked = min(neighbours, len(rows))


def _column_of(node: ir.Node) -> _Column | None:
    number, missing, table, neighbours = (known_tensor(node.inputs[at]) for at in (0, 4, 8, 9))
    if number is None or missing is None or table is None or neighbours is None:
        return None
    at, many = (int(held.numpy().reshape(-1)[0]) for held in (number, neighbours))
    column = _Column(at, table.numpy().astype(np.float32), missing.numpy().astype(np.bool_), many)
    return column if column.asked > 0 else None


def _fed(distances: ir.Value | None) -> ir.Value | None:
    """The rows of which some were picked for the distances."""
    made = distances.producer() if distances is not None else None
    picked = made.inputs[0] if made is not None and made.op_type == _DISTANCES else None
    gathered = picked.producer() if picked is not None else None
    return gathered.inputs[0] if gathered is not None and gathered.op_type == "Gather" else None


def _imputed(column: _Column, fed: ir.Value, x: ir.Value, missing: ir.Value) -> list[ir.Node]:
    """The nodes whose last gives ``x`` with the column filled in where it is missing."""
    tape = _Tape()
    op, held = tape.op, tape.constant
    known = np.where(column.missing, 0, column.table)[None].astype(np.float32)
    here = op("Unsqueeze", fed, held([1]))
    absent = op("Or", op("IsNaN", here), held(column.missing[None]))
    apart = op("Where", absent, held(np.float32(0)), op("Sub", here, held(known)))
    present = op("ReduceSum", op("Cast", op("Not", absent), to=1), held([2]), keepdims=0)
    far = op("ReduceSum", op("Mul", apart, apart), held([2]), keepdims=0)
    share = op("Div", far, op("Max", present, held(np.float32(1))))
    alone = op("Equal", present, held(np.float32(0)))
    last = op("Where", alone, held(np.float32(3e38)), share)
    nearest = op("TopK", last, held([column.asked]), outputs=2, largest=0)
    counts = op("Sub", held(np.float32(1)), op("GatherElements", op("Cast", alone, to=1), nearest, axis=1))
    theirs = op("Mul", op("Gather", held(column.values), nearest), counts)
    many = op("ReduceSum", counts, held([1]), keepdims=1)
    mean = op("Div", op("ReduceSum", theirs, held([1]), keepdims=1), op("Max", many, held(np.float32(1))))
    # a row that has nothing in common with any other gets the mean of the column
    usual = held(np.float32(column.values.mean(dtype=np.float64)))
    filled = op("Where", op("Equal", many, held(np.float32(0))), usual, mean)
    own = np.arange(column.features)[None] == column.number
    op("Where", op("And", missing, held(own)), filled, x)
    return tape.nodes


class _Tape:
    """Nodes as they are written, one behind another."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def op(self, operator: str, *inputs: ir.Value, outputs: int = 1, **attributes: int) -> ir.Value:
        """The last of its results."""
        node = ir.node(operator, list(inputs), attributes, num_outputs=outputs)
        self.nodes.append(node)
        return node.outputs[-1]

    def constant(self, value: np.ndarray | np.generic | Sequence[int]) -> ir.Value:
        """Numbers; a list holds axes or counts."""
        array = np.asarray(value, np.int64) if isinstance(value, list) else np.asarray(value)
        node = ir.node("Constant", [], {"value": ir.tensor(array)})
        self.nodes.append(node)
        return node.outputs[0]
