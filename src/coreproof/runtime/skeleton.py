"""Skeleton: a graph as an ONNX message without its weights, of which parts are taken that compute some values only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from coreproof.model.formats import onnx as stored
from coreproof.model.graph import select

ExternalInputs: TypeAlias = Mapping[str, tuple[int, Sequence[int] | None]]
"""Values that come from outside: name -> ONNX element type, and shape where it is known."""


class Skeleton:
    """A graph as a message, with an index of what its nodes read and make, so that a part costs as much as it is long."""

    def __init__(self, message: onnx.ModelProto) -> None:
        self._message = message
        self.nodes: list[onnx.NodeProto] = list(message.graph.node)
        self.reads: list[frozenset[str]] = [frozenset(stored.reads(node)) for node in self.nodes]
        self._makers = {name: (place,) for place, node in enumerate(self.nodes) for name in node.output if name}
        self._stored = {i.name: i for i in message.graph.initializer}
        self._declared = {o.name: o for o in message.graph.output}

    def before(self, names: Iterable[str], stops: Collection[str] = ()) -> list[int]:
        """The places of the nodes that make ``names``, and what these read in turn, down to ``stops``; in stored order."""
        return select(names, self._makers, self.reads, stops)

    def part(self, outputs: Collection[str], fed: Collection[str]) -> tuple[list[int], set[str]]:
        """The places of the nodes that compute ``outputs`` from what is ``fed``, and all values that these and the caller read.

        An output that is fed is not computed; what the graph makes there itself is asked for as ``recomputed(name)``.
        """
        own = {recomputed(name): name for name in fed}
        places = self.before([own.get(name, name) for name in outputs if name not in fed], fed)
        return places, set(outputs).union(*(self.reads[place] for place in places))

    def is_constant(self, name: str) -> bool:
        """Whether a node states the value, rather than computing it."""
        return any(self.nodes[place].op_type == "Constant" for place in self._makers.get(name, ()))

    def prune(self, outputs: Sequence[str], fed: ExternalInputs | None = None) -> onnx.ModelProto:
        """A model that computes ``outputs`` and nothing else; ONNX Runtime itself runs nodes that nobody reads.

        ``fed``: values that come from outside instead, whatever makes them in the graph; what the graph makes there
        itself can be asked for as ``recomputed(name)``.
        """
        given = fed or {}
        nodes, wanted = self.part(outputs, given)
        message = self._message
        part = onnx.ModelProto(ir_version=message.ir_version, producer_name=message.producer_name)
        part.opset_import.extend(message.opset_import)
        part.functions.extend(message.functions)
        part.graph.name = message.graph.name
        part.graph.node.extend(self.nodes[place] for place in nodes)
        if fed is None:
            # old files declare their weights as inputs too: what is stored and not read would have to be fed
            part.graph.input.extend(i for i in message.graph.input if i.name in wanted or i.name not in self._stored)
        else:
            for node in part.graph.node:
                node.output[:] = [recomputed(name) if name in fed else name for name in node.output]
            part.graph.input.extend(
                onnx.helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in fed.items()
            )
        stored = sorted(name for name in wanted if name in self._stored and name not in given)
        part.graph.initializer.extend(self._stored[name] for name in stored)
        part.graph.output.extend(self._declared.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
        return part


def recomputed(name: str) -> str:
    """What a part calls the value that it makes itself where another is fed under ``name``."""
    return f"{name}/made"


def element_type(array: np.ndarray) -> int:
    """The ONNX element type in which an array is fed."""
    # NumPy has three kinds of texts, ONNX one
    return int(ir.DataType.STRING if array.dtype.kind in "OSU" else ir.DataType.from_numpy(array.dtype))
