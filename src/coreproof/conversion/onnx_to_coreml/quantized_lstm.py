"""ONNX Runtime's DynamicQuantizeLSTM, written out: what is fed is quantised once, and the state anew at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

_DOMAIN = "coreproof.quantized"
_INPUTS = ("x", "w", "r", "b", "lengths", "h", "c", "p", "ws", "wz", "rs", "rz")
_GATES = ("i", "o", "f", "g")
"""In their order in the weights; g is the cell's candidate."""
_USUAL = ("sigmoid", "tanh", "tanh")
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Which of them go backwards."""
_FIRST_OPSET = 11
"""That of DynamicQuantizeLinear."""


def write_out_quantized(model: ir.Model) -> None:
    """Makes each DynamicQuantizeLSTM a call of a function of the standard's operators.

    Source: ContribOperators.md of ONNX Runtime. Peepholes, lengths of rows, clipping and other activations stay, and are refused.
    """
    opset = model.opset_imports.get("", 1)
    nodes = [node for node in model.graph.all_nodes() if node.op_type == "DynamicQuantizeLSTM"]
    for number, node in enumerate(nodes):
        if node.domain != "com.microsoft" or opset < _FIRST_OPSET or not _is_usual(node):
            continue
        definition = _definition(node, opset)
        del definition.output[len(node.outputs) :]
        definition.name = f"DynamicQuantizeLSTM_{number}"
        for place, value in enumerate(node.outputs):  # what is left out is made all the same, and read by nobody
            value.name = value.name or f"{definition.name}/omitted{place}"
        function = ir.from_proto(definition)
        model.functions[function.identifier()] = function
        model.opset_imports[_DOMAIN] = 1
        node.attributes.clear()
        node.domain, node.op_type = _DOMAIN, definition.name


def _is_usual(node: ir.Node) -> bool:
    given = dict(zip(_INPUTS, node.inputs, strict=False))
    if given.get("lengths") is not None or given.get("p") is not None:
        return False
    if any(given.get(name) is None for name in ("ws", "wz", "rs", "rz")):
        return False
    # a file may give any attribute any type
    read = {name: attribute.value for name, attribute in node.attributes.items()}
    names = read.get("activations", _USUAL)
    if not isinstance(names, Sequence) or any(str(n).lower() != _USUAL[at % 3] for at, n in enumerate(names)):
        return False
    units, direction = read.get("hidden_size"), read.get("direction", "forward")
    known = isinstance(units, int) and units > 0 and isinstance(direction, str) and direction in _DIRECTIONS
    return known and "clip" not in read and read.get("input_forget", 0) == 0


@dataclass
class _Writer:
    """Nodes of a function or of a nested graph, in their order."""

    begin: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def node(self, operator: str, *reads: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{self.begin}{operator}{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(operator, reads, names, **attributes))
        return names

    def __call__(self, operator: str, *reads: str, **attributes: Any) -> str:
        return self.node(operator, *reads, **attributes)[0]

    def numbers(self, *numbers: int) -> str:
        return self("Constant", value=numpy_helper.from_array(np.array(numbers, np.int64)))

    def part(self, value: str, first: int, end: int, axis: int) -> str:
        return self("Slice", value, self.numbers(first), self.numbers(end), self.numbers(axis))

    def shaped(self, value: str, *lengths: int) -> str:
        return self("Reshape", value, self.numbers(*lengths))

    def product(self, quantised: list[str], weight: str, zero: str, scale: str) -> str:
        """A product of quantised numbers, (numbers, scale, zero point), with a weight, as floats."""
        numbers, step, point = quantised
        whole = self("MatMulInteger", numbers, weight, point, zero)
        return self("Mul", self("Cast", whole, to=TensorProto.FLOAT), self("Mul", step, scale))


def _definition(node: ir.Node, opset: int) -> onnx.FunctionProto:
    units = node.attributes["hidden_size"].as_int()
    direction = node.attributes["direction"].as_string() if "direction" in node.attributes else "forward"
    given = {name for name, value in zip(_INPUTS, node.inputs, strict=False) if value is not None}
    write = _Writer()
    fed = write.node("DynamicQuantizeLinear", "x", outputs=3)
    ends = [
        _direction(write, fed, at, units, given, backwards=backwards)
        for at, backwards in enumerate(_DIRECTIONS[direction])
    ]
    states, last, cells = zip(*ends, strict=True)
    # all states as [steps, directions, rows, units]
    outputs = [write("Concat", *(write.shaped(each, 0, 1, -1, units) for each in states), axis=1)]
    outputs += [write("Concat", *(write.shaped(each, 1, -1, units) for each in kept), axis=0) for kept in (last, cells)]
    return helper.make_function(
        _DOMAIN, "DynamicQuantizeLSTM", list(_INPUTS[: len(node.inputs)]), outputs, write.nodes,
        [helper.make_opsetid("", opset)],
    )  # fmt: skip


def _direction(
    write: _Writer, fed: list[str], at: int, units: int, given: set[str], *, backwards: bool
) -> tuple[str, str, str]:
    """All states of one direction, [steps, rows, units], its last one and its last cell, [rows, units]."""

    def own(name: str, *shape: int) -> str:
        return write.shaped(write.part(name, at, at + 1, 0), *shape)

    gates = write.product(fed, own("w", -1, 4 * units), own("wz", -1), own("ws", -1))
    if "b" in given:
        bias = own("b", -1)
        both = write("Add", write.part(bias, 0, 4 * units, 0), write.part(bias, 4 * units, 8 * units, 0))
        gates = write("Add", gates, both)
    rows = write.part(write("Shape", "x"), 1, 2, 0)
    zeros = write("ConstantOfShape", write("Concat", rows, write.numbers(units), axis=0))
    first = [own(name, -1, units) if name in given else zeros for name in ("h", "c")]
    recurrent = (own("r", -1, 4 * units), own("rz", -1), own("rs", -1))
    found = write.node(
        "Scan", *first, gates, outputs=3, num_scan_inputs=1, body=_step(recurrent, units, f"step{at}_"),
        scan_input_directions=[int(backwards)], scan_output_directions=[int(backwards)],
    )  # fmt: skip
    return found[2], found[0], found[1]


def _step(recurrent: tuple[str, str, str], units: int, begin: str) -> onnx.GraphProto:
    """ONNX, LSTM: c = f * c + i * g, h = o * tanh(c)."""
    write = _Writer(begin)
    state, cell, read = (f"{begin}{name}" for name in ("h", "c", "x"))
    quantised = write.node("DynamicQuantizeLinear", state, outputs=3)
    total = write("Add", read, write.product(quantised, *recurrent))
    parts = {gate: write.part(total, at * units, (at + 1) * units, 1) for at, gate in enumerate(_GATES)}
    activated = {gate: write("Tanh" if gate == "g" else "Sigmoid", parts[gate]) for gate in _GATES}
    kept, new = write("Mul", activated["f"], cell), write("Mul", activated["i"], activated["g"])
    after = write("Add", kept, new)
    made = write("Mul", activated["o"], write("Tanh", after))
    shown = write("Identity", made)
    reads, gives = (
        [onnx.ValueInfoProto(name=n) for n in names] for names in ((state, cell, read), (made, after, shown))
    )
    return helper.make_graph(write.nodes, "step", reads, gives)
