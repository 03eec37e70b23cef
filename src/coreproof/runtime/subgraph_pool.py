"""SubgraphPool: an ONNX graph of which ONNX Runtime opens any part, from inner values to inner values, on the same weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from coreproof.model.onnx.omitted_outputs import name_omitted
from coreproof.model.onnx.read import in_memory, stored_tensors
from coreproof.runtime.arena import engine_error, failed_to_optimise, lacks_kernel, open_within_budget
from coreproof.runtime.custom_layers import CustomParts, Runnable, has_custom_layers, layers_of
from coreproof.runtime.exact_integers import add_exactly
from coreproof.runtime.executable import Executable
from coreproof.runtime.skeleton import ExternalInputs, Skeleton
from coreproof.runtime.threads import threads_asked_for

if TYPE_CHECKING:
    import onnxruntime as ort

_INLINE = 1024
"""Bytes up to which a tensor travels inside the message; shapes and axes have to, shape inference reads them."""


class SubgraphPool:
    """``executable``'s graph. Its weights are held once, in memory or mapped from their file, and shared by all sessions."""

    def __init__(self, executable: Executable, *, threads: int | None = None) -> None:
        self.executable = executable
        self._threads = threads if threads is not None else threads_asked_for()
        self._weights: dict[str, ort.OrtValue] = {}
        self._small: dict[str, onnx.TensorProto] = {}
        self._skeleton: Skeleton | None = None

    @cached_property
    def values(self) -> dict[str, ir.Value]:
        """The values that are fed, computed or stored, by name; those of nested graphs apart."""
        graph = self.executable.graph.graph
        made = (v for node in graph for v in node.outputs)
        return {v.name: v for v in (*graph.initializers.values(), *graph.inputs, *made) if v.name}

    @property
    def initializers(self) -> Collection[str]:
        """The values that the graph stores."""
        return self.executable.graph.graph.initializers.keys()

    def open(self, outputs: Sequence[str], fed: ExternalInputs | None = None, *, optimised: bool = True) -> Runnable:
        """An ONNX Runtime session that computes ``outputs`` and nothing else. RunError where the engine refuses.

        ``fed`` are its inputs, inner values or not; None: the inputs that the graph declares.
        What runs once is better not ``optimised``: that takes longer than it saves.
        """
        return self._session(self.skeleton.prune(outputs, fed), optimised=optimised)

    def sizes(self, names: Sequence[str], arrays: Mapping[str, object]) -> dict[str, int]:
        """How many elements each of these values has when the graph is fed ``arrays``, by one run that keeps none of them.

        Empty where the engine cannot tell, as of sequences.
        """
        part = self.skeleton.prune(names)
        del part.graph.output[:]
        for name in names:
            part.graph.node.add(op_type="Size", input=[name], output=[f"{name}/size"])
            part.graph.output.add(name=f"{name}/size")
        declared = {i.name for i in part.graph.input}
        try:
            counts = self._session(part, optimised=False).run(None, {n: a for n, a in arrays.items() if n in declared})
        except Exception:  # onnxruntime's share no base class; the run itself will say what is wrong, if anything is
            return {}
        return {name: int(count) for name, count in zip(names, counts, strict=True)}

    def _session(self, part: onnx.ModelProto, *, optimised: bool) -> Runnable:
        if has_custom_layers(part):
            layers, dtypes = layers_of(self.executable.graph.graph)
            return CustomParts(part, layers, dtypes, lambda inner: self._session(inner, optimised=optimised))

        shared = add_exactly(part, self._supply(part))
        message = part.SerializeToString()

        def opened(*, optimised: bool, moved: bool = True) -> Runnable:
            options = self._options(shared, optimised=optimised, moved=moved)
            running: Runnable = open_within_budget(message, options, self._weight_bytes)
            return running

        try:
            try:
                return opened(optimised=optimised)
            except Exception as error:  # onnxruntime's exceptions share no base class
                if optimised and failed_to_optimise(error):
                    return opened(optimised=False)
                if not lacks_kernel(error):
                    raise
                # moved weights beside int8 activations: it has no such product, and adds that of the two as stored exactly
                return opened(optimised=optimised, moved=False)
        except Exception as error:
            raise engine_error("ONNX Runtime refuses the model", error, self.executable.name) from error

    def _options(
        self, shared: Mapping[str, ort.OrtValue], *, optimised: bool, moved: bool = True
    ) -> ort.SessionOptions:
        import onnxruntime as ort

        options = ort.SessionOptions()
        # fatal alone: what is wrong is raised as well, and the log would go to the user's terminal
        options.log_severity_level = 4
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        # what optimising joins to products of integers is added exactly as well: see exact_integers
        options.add_session_config_entry("session.x64quantprecision", str(int(moved)))
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_external_initializers(list(shared), list(shared.values()))
        return options

    def close(self) -> None:
        """Lets go of the weights."""
        self._weights.clear()
        self._small.clear()
        self._skeleton = None

    @cached_property
    def _weight_bytes(self) -> int:
        """The bytes that the graph and its nodes store, text left out."""
        tensors = stored_tensors(self.executable.graph)
        return sum(t.nbytes for t in tensors if t.dtype != ir.DataType.STRING)

    @property
    def skeleton(self) -> Skeleton:
        """The graph as a message in which initializers are names alone."""
        if self._skeleton is None:
            model = in_memory(self.executable.graph, initializers=False)
            message = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name or "")
            for domain, version in model.opset_imports.items():
                message.opset_import.add(domain=domain, version=version)
            message.functions.extend(ir.serde.serialize_function(f) for f in model.functions.values())
            graph = message.graph
            graph.name = model.graph.name or "main"
            graph.node.extend(ir.serde.serialize_node(node) for node in model.graph)
            graph.input.extend(ir.serde.serialize_value(v) for v in model.graph.inputs)
            graph.output.extend(ir.serde.serialize_value(v) for v in model.graph.outputs)
            # names alone: a part of the message is then as small as its nodes
            graph.initializer.extend(onnx.TensorProto(name=name) for name in model.graph.initializers)
            self._skeleton = Skeleton(name_omitted(message))
        return self._skeleton

    def _supply(self, part: onnx.ModelProto) -> dict[str, ort.OrtValue]:
        """Puts small initializers into ``part`` and returns the others, by name, to be shared in memory."""
        import onnxruntime as ort

        shared: dict[str, ort.OrtValue] = {}
        for place in part.graph.initializer:
            tensor = self.executable.graph.graph.initializers[place.name].const_value
            assert tensor is not None
            if not _shareable(tensor):
                if place.name not in self._small:
                    self._small[place.name] = _inline(tensor)
                    self._small[place.name].name = place.name
                place.CopyFrom(self._small[place.name])
                continue
            if place.name not in self._weights:
                # OrtValue takes memory in C's order
                array = np.ascontiguousarray(tensor.numpy())
                self._weights[place.name] = ort.OrtValue.ortvalue_from_numpy(array)
            shared[place.name] = self._weights[place.name]
            place.dims.extend(tensor.shape.numpy())
            place.data_type = int(tensor.dtype)
            place.data_location = onnx.TensorProto.EXTERNAL
            # the engine looks among the values that were added by name before it opens a file
            place.external_data.add(key="location", value="memory")
        return shared


_SHARED = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.INT8, ir.DataType.UINT8)


def _shareable(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype in _SHARED and tensor.nbytes > _INLINE  # texts have no length in bytes


def _inline(tensor: ir.TensorProtocol) -> onnx.TensorProto:
    """The tensor with its data, also where that lies in a file of its own."""
    stored = ir.Tensor(tensor.numpy()) if isinstance(tensor, ir.ExternalTensor) else tensor
    return ir.serde.serialize_tensor(stored)
