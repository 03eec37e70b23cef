"""The ONNX Runtime engine: ONNX models as they are, Core ML models as coreproof lowers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

from coreproof.errors import RunError
from coreproof.run.live import LiveGraph
from coreproof.run.lowered import Prepared
from coreproof.run.session import Session, read_inputs


class OnnxRuntimeSession(Session):
    """Runs on the CPU provider, in the precision that the graph states.

    A run with taps uses a session of its own, in which the taps are outputs: what the optimiser fuses away in
    an ordinary run exists there. The last such session is kept, because verification asks for the same taps, or some of
    them, again. Either is opened when it is first needed: only then it shows whether the engine takes the model.
    """

    concurrent = True

    def __init__(self, prepared: Prepared, *, threads: int | None = None) -> None:
        self.prepared = prepared
        self.signature = prepared.signature
        self.engine = prepared.engine
        self.live = LiveGraph(prepared, threads=threads)
        self._outputs = [v.name or "" for v in prepared.graph.graph.outputs]
        self._inputs = {v.name or "" for v in prepared.graph.graph.inputs}
        self._plain: Any = None
        self._tapped: tuple[tuple[str, ...], Any] | None = None
        self._opening = Lock()

    @cached_property
    def tappable(self) -> frozenset[str]:
        graph = self.prepared.graph.graph
        made = {v.name for node in graph for v in node.outputs if v.name}
        named = {own for own, value in self.prepared.values.items() if value in made}
        return frozenset(made | named)

    def run(self, inputs: Mapping[str, Any], taps: Sequence[str] = ()) -> dict[str, Any]:
        arrays = read_inputs(self.signature, inputs, self.prepared.name)
        wanted = tuple(dict.fromkeys(self.prepared.values.get(t, t) for t in taps))
        extra = tuple(t for t in wanted if t not in self._outputs and t not in self._inputs)
        with self._opening:
            running = self._opened(extra)
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

    def _opened(self, extra: tuple[str, ...]) -> Any:
        if not extra:
            if self._plain is None:
                self._plain = self.live.open(self._outputs)
            return self._plain
        if self._tapped is None or not set(extra) <= set(self._tapped[0]):
            self._tapped = (extra, self.live.open((*self._outputs, *extra)))
        return self._tapped[1]

    def close(self) -> None:
        self._tapped = None
        self._plain = None
        self.live.close()
