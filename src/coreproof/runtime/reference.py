"""ONNX's own reference evaluator as an engine: what ONNX Runtime has no kernel for, node by node, in NumPy, slowly."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.node_form import said
from coreproof.conversion.reference import computed, result_shapes
from coreproof.errors import CoreproofError, UnsupportedModelError
from coreproof.model.base import Model
from coreproof.model.budget import afford
from coreproof.runtime.executable import compile_model
from coreproof.runtime.session import Session, State, Values, read_inputs

_SECONDS = 60.0
"""After so long no further node is begun: the evaluator loops in Python where an engine has a kernel."""


class ReferenceSession(Session):
    """Runs an ONNX graph, or what a Core ML model is lowered to, as the standard's reference implementation computes it.

    Each node is run by itself, so that sizes are checked before anything is made, and every value of the graph can be tapped.
    """

    engine = "ONNX's reference evaluator"

    def __init__(self, model: Model) -> None:
        self._executable = compile_model(model, "stored")
        self.signature = self._executable.signature
        self._graph = self._executable.graph
        self._functions = [ir.serde.serialize_function(f) for f in self._graph.functions.values()]
        self._opsets = {domain: version for domain, version in self._graph.opset_imports.items() if version is not None}

    @cached_property
    def tappable(self) -> frozenset[str]:
        made = {v.name for node in self._graph.graph for v in node.outputs if v.name}
        return frozenset(made | {own for own, name in self._executable.values.items() if name in made})

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        self._refuse_state(state)
        fed = self._executable.encode_inputs(read_inputs(self.signature, inputs, self._executable.name))
        wanted = {tap: self._executable.values.get(tap, tap) for tap in taps}
        outputs = [v.name or "" for v in self._graph.graph.outputs]
        values = self._values(fed, {*outputs, *wanted.values()})
        finished = self._executable.decode_outputs({name: values[name] for name in outputs})
        return {**finished, **{tap: values[name] for tap, name in wanted.items()}}

    def _values(self, fed: Mapping[str, object], wanted: set[str]) -> dict[str, object]:
        graph = self._graph.graph
        # an initializer that is fed as an input keeps what was fed
        values: dict[str, object] = {
            name: v.const_value.numpy() for name, v in graph.initializers.items() if v.const_value is not None
        }
        values.update(fed)
        ends = time.monotonic() + _SECONDS
        for node in self._needed(wanted):
            if time.monotonic() > ends:
                raise self._lacks(node, f"{_SECONDS:.0f} seconds are over, and it is slow")
            values.update(self._made(node, values))
        return values

    def _needed(self, wanted: set[str]) -> Iterator[ir.Node]:
        """The nodes that lead to these values, in their order."""
        open_names, needed = set(wanted), list[ir.Node]()
        for node in reversed(self._graph.graph):
            if any(v.name in open_names for v in node.outputs):
                needed.append(node)
                open_names |= _read(ir.serde.serialize_node(node))
        return reversed(needed)

    def _made(self, node: ir.Node, values: Mapping[str, object]) -> dict[str, object]:
        proto = ir.serde.serialize_node(node)
        names = {name: f"unread{at}" for at, name in enumerate(proto.output) if not name}
        proto.output[:] = [name or f"unread{at}" for at, name in enumerate(proto.output)]
        feeds = {name: values[name] for name in _read(proto) if name in values}
        arrays = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray)}
        for name, lengths in result_shapes(proto, arrays, self._opsets).items():
            afford(f"value {name!r}", lengths, 8, where=self._executable.name)
        try:
            results = computed(proto, feeds, self._opsets, self._functions)
        except CoreproofError:
            raise
        except Exception as error:  # the evaluator's operators raise whatever NumPy raises
            raise self._lacks(node, said(error) or "it fails on what it is fed") from error
        return {name: value for name, value in zip(proto.output, results, strict=True) if name not in names.values()}

    def _lacks(self, node: ir.Node, found: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            "ONNX's reference evaluator does not run the model",
            where=f"{self._executable.name}, node {node.name or (node.outputs[0].name if node.outputs else '')!r}",
            found=f"{node.op_type}: {found}",
        )


def _read(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads, those that graphs within it take from around them included."""
    read = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            made = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            made |= {name for inner in graph.node for name in inner.output}
            inside = {v.name for v in graph.output}.union(*map(_read, graph.node))
            read |= inside - made
    return read
