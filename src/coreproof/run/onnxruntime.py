"""The ONNX Runtime engine: ONNX models as they are, Core ML models as coreproof lowers them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from coreproof.errors import RunError
from coreproof.run.lowered import Prepared
from coreproof.run.session import Session, read_inputs

_KEPT_IN_MESSAGE = 50_000_000
"""Bytes of weights beyond which they are written to a file once and mapped by every session, instead of copied to each."""


class OnnxRuntimeSession(Session):
    """Runs on the CPU provider, in the precision that the graph states.

    A run with taps uses a session of its own, in which the taps are outputs: what the optimiser fuses away in
    an ordinary run exists there. The last such session is kept, because verification asks for the same taps again.
    """

    def __init__(self, prepared: Prepared, *, threads: int | None = None) -> None:
        self.prepared = prepared
        self.signature = prepared.signature
        self.engine = prepared.engine
        self._threads = threads
        self._scratch: Path | None = None
        self._forget: Callable[[], object] | None = None
        self._outputs = [v.name or "" for v in prepared.graph.graph.outputs]
        self._session = self._open(())
        self._tapped: tuple[tuple[str, ...], Any] | None = None
        self._graph_inputs = {i.name: i.type for i in self._session.get_inputs()}

    @cached_property
    def tappable(self) -> frozenset[str]:
        graph = self.prepared.graph.graph
        made = {v.name for node in graph for v in node.outputs if v.name}
        named = {own for own, value in self.prepared.values.items() if value in made}
        return frozenset(made | named)

    @cached_property
    def _proto(self) -> onnx.ModelProto:
        """The model as one message; many weights stay out of it, in a file that the engine maps."""
        graph = self.prepared.graph.graph
        tensors = [v.const_value for v in graph.initializers.values() if v.const_value is not None]
        if sum(t.nbytes for t in tensors) < _KEPT_IN_MESSAGE:
            return ir.to_proto(ir.external_data.load_to_model(self.prepared.graph))
        self._scratch = Path(tempfile.mkdtemp(prefix="coreproof-"))
        self._forget = weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        ir.save(self.prepared.graph, self._scratch / "model.onnx", external_data="weights")
        return onnx.load(self._scratch / "model.onnx", load_external_data=False)

    def _open(self, taps: Sequence[str]) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        proto = live_part(self._proto, (*self._outputs, *taps))
        try:
            if self._scratch is None:
                return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
            path = self._scratch / "model.onnx"
            path.write_bytes(proto.SerializeToString())
            return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> RunError:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return RunError("ONNX Runtime refuses the model", where=self.prepared.name, found=text)

    def run(self, inputs: Mapping[str, Any], taps: Sequence[str] = ()) -> dict[str, Any]:
        arrays = read_inputs(self.signature, inputs, self.prepared.name)
        wanted = tuple(dict.fromkeys(self.prepared.values.get(t, t) for t in taps))
        extra = tuple(t for t in wanted if t not in self._outputs and t not in self._graph_inputs)
        running = self._session
        if extra:
            if self._tapped is None or self._tapped[0] != extra:
                self._tapped = (extra, self._open(extra))
            running = self._tapped[1]
        names = [*self._outputs, *extra]
        try:
            values = dict(zip(names, running.run(names, arrays), strict=True))
        except Exception as error:
            raise RunError(
                "ONNX Runtime failed while running the model", where=self.prepared.name, found=str(error)
            ) from None
        results = self.prepared.finish(values)
        for tap in taps:
            graph_name = self.prepared.values.get(tap, tap)
            results[tap] = values[graph_name] if graph_name in values else arrays[graph_name]
        return results

    def close(self) -> None:
        self._tapped = None
        self._session = None
        if self._forget is not None:
            self._forget()


def live_part(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """A copy of ``model`` that computes ``outputs`` and nothing else; ONNX Runtime itself runs nodes that nobody reads."""
    wanted = set(outputs)
    live = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            live.append(node)
            wanted.update(_names_read(node))
    part = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name
    part.graph.node.extend(reversed(live))
    part.graph.input.extend(model.graph.input)
    part.graph.initializer.extend(i for i in model.graph.initializer if i.name in wanted)
    part.graph.sparse_initializer.extend(model.graph.sparse_initializer)
    declared = {o.name: o for o in model.graph.output}
    part.graph.output.extend(declared.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    return part


def _names_read(node: onnx.NodeProto) -> set[str]:
    """Everything a node reads, also from within its nested graphs."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _names_read(inner)
            names.update(o.name for o in graph.output)
    return names
