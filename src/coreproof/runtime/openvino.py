"""The OpenVINO engine: the same graphs, in float32, as a second opinion or for speed on Intel processors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from coreproof.errors import MissingDependencyError, RunError
from coreproof.model.onnx.omitted_outputs import name_omitted
from coreproof.model.onnx.read import in_memory
from coreproof.runtime.executable import Executable
from coreproof.runtime.session import Session, State, Values, read_inputs
from coreproof.runtime.threads import threads_asked_for

if TYPE_CHECKING:
    import openvino


class OpenVinoSession(Session):
    """Runs on the CPU. Its default bfloat16 arithmetic is switched off: results are meant to be compared."""

    executable: Executable

    def __init__(self, executable: Executable, *, threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingDependencyError("OpenVINO is not installed", fix="pip install 'coreproof[openvino]'") from None
        self.executable = executable
        self.signature = executable.signature
        self.engine = executable.engine.replace("ONNX Runtime", "OpenVINO")
        self._core = openvino.Core()
        # on processors with bfloat16 OpenVINO computes in it unless told otherwise
        self._options: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
        threads = threads if threads is not None else threads_asked_for()
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[tuple[str, ...], openvino.CompiledModel] = {}
        self._open(())

    @property
    def tappable(self) -> frozenset[str]:
        return frozenset(v.name for node in self.executable.graph.graph for v in node.outputs if v.name)

    def _open(self, taps: tuple[str, ...]) -> openvino.CompiledModel:
        if taps not in self._compiled:
            proto = name_omitted(ir.to_proto(in_memory(self.executable.graph, initializers=True)))
            # a name alone: OpenVINO infers type and shape itself
            proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in taps)
            try:
                model = self._core.read_model(proto.SerializeToString())
                self._compiled[taps] = self._core.compile_model(model, "CPU", self._options)
            except RuntimeError as error:
                raise RunError(
                    "OpenVINO refuses the model", where=self.executable.name, found=str(error).splitlines()[0]
                ) from None
        return self._compiled[taps]

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        self._refuse_state(state)
        arrays = self.executable.encode_inputs(read_inputs(self.signature, inputs, self.executable.name))
        declared = [v.name or "" for v in self.executable.graph.graph.outputs]
        extra = tuple(dict.fromkeys(n for t in taps if (n := self.executable.values.get(t, t)) not in declared))
        results = self._open(extra)(arrays)
        values = dict(zip([*declared, *extra], (results[i] for i in range(len(declared) + len(extra))), strict=True))
        finished = self.executable.decode_outputs(values)
        finished.update({tap: values[self.executable.values.get(tap, tap)] for tap in taps})
        return finished
