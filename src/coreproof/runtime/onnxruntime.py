"""The ONNX Runtime engine: ONNX models as they are, Core ML models as coreproof lowers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from threading import Lock

import numpy as np

from coreproof.errors import RunError
from coreproof.runtime.arena import engine_error, failed_node
from coreproof.runtime.custom_layers import Runnable
from coreproof.runtime.executable import Executable
from coreproof.runtime.segments import Segment, segments
from coreproof.runtime.session import Session, State, Values, read_inputs
from coreproof.runtime.skeleton import element_type
from coreproof.runtime.states import read_state, require_no_states
from coreproof.runtime.subgraph_pool import SubgraphPool


class OnnxRuntimeSession(Session):
    """Runs on the CPU provider, in the precision that the graph states.

    A run with taps uses a session of its own, in which the taps are outputs: what the optimiser fuses away in
    an ordinary run exists there. The last such session is kept, because verification asks for the same taps, or some of
    them, again. Either is opened when it is first needed: only then it shows whether the engine takes the model.
    """

    concurrent = True
    executable: Executable

    def __init__(self, executable: Executable, *, threads: int | None = None) -> None:
        self.executable = executable
        self.signature = executable.signature
        self.engine = executable.engine
        self.pool = SubgraphPool(executable, threads=threads)
        self._outputs = [v.name or "" for v in executable.graph.graph.outputs]
        self._inputs = {v.name or "" for v in executable.graph.graph.inputs}
        self._plain: Runnable | None = None
        self._tapped: tuple[tuple[str, ...], Runnable] | None = None
        self._stretch: tuple[tuple[object, ...], Runnable] | None = None
        self._opening = Lock()

    @cached_property
    def tappable(self) -> frozenset[str]:
        graph = self.executable.graph.graph
        # values of bodies are none of the graph's, and cannot be handed out
        made = {v.name for node in graph for v in node.outputs if v.name}
        named = {own for own, value in self.executable.values.items() if value in made}
        return frozenset(made | named)

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        arrays = {**self._read(inputs), **self._remembered(state)}
        extra = self._extra(taps)
        with self._opening:
            running = self._opened(extra)
        values = self._run(running, [*self._outputs, *extra], arrays)
        if state is not None:
            state.update({name: values[after] for name, after in self.executable.states.items()})
        return {**self.executable.decode_outputs(values), **self._tapped_of(taps, values, arrays)}

    def walk(self, inputs: Mapping[str, object], groups: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
        """One pass, stretch by stretch. Where the engine takes the model as a whole only, it runs as a whole for each group."""
        if len(groups) < 2:
            yield from super().walk(inputs, groups)
            return
        arrays = self._read(inputs)
        named = [[self.executable.values.get(t, t) for t in group] for group in groups]
        asked = [
            [n for n in dict.fromkeys(group) if n not in self._inputs]
            for group in (*named[:-1], named[-1] + self._outputs)
        ]
        plan = segments(self.pool.skeleton, asked)
        kept: dict[str, object] = {}
        for at, (taps, stretch) in enumerate(zip(groups, plan, strict=True)):
            try:
                kept.update(self._run_stretch(stretch, {**arrays, **{name: kept[name] for name in stretch.reads}}))
            except RunError:
                # the values of the stretches so far are of no use to a whole run, and large
                kept.clear()
                yield from super().walk(inputs, groups[at:])
                return
            made = {name: kept[name] for name in stretch.asked}
            for name in stretch.dropped:
                del kept[name]
            outputs = self.executable.decode_outputs({**arrays, **made}) if stretch is plan[-1] else {}
            found = [{**outputs, **self._tapped_of(taps, made, arrays)}]
            del made, outputs
            yield found.pop()  # nothing is held here while the next stretch runs

    def sizes(self, inputs: Mapping[str, object], taps: Sequence[str]) -> Mapping[str, int]:
        arrays = self._read(inputs)
        found = self.pool.sizes(self._extra(taps), arrays)
        return {tap: found[name] for tap in taps if (name := self.executable.values.get(tap, tap)) in found}

    def _read(self, inputs: Mapping[str, object]) -> dict[str, object]:
        """What the graph is fed for these inputs of the model."""
        return self.executable.encode_inputs(read_inputs(self.signature, inputs, self.executable.name))

    def _remembered(self, state: State | None) -> dict[str, np.ndarray]:
        """What each state holds before the run, cast to its dtype."""
        if state is None:
            require_no_states(self.signature, self.executable.name)
        return read_state(self.signature, state or {}, self.executable.name)

    def _extra(self, taps: Sequence[str]) -> tuple[str, ...]:
        """The values of the graph that the taps stand for, without those that every run brings or is fed."""
        wanted = dict.fromkeys(self.executable.values.get(t, t) for t in taps)
        return tuple(t for t in wanted if t not in self._outputs and t not in self._inputs)

    def _tapped_of(
        self, taps: Sequence[str], values: Mapping[str, object], arrays: Mapping[str, object]
    ) -> dict[str, object]:
        names = {tap: self.executable.values.get(tap, tap) for tap in taps}
        return {tap: values[name] if name in values else arrays[name] for tap, name in names.items()}

    def _run(self, running: Runnable, names: Sequence[str], arrays: Mapping[str, object]) -> Values:
        try:
            return dict(zip(names, running.run(names, arrays), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class
            said, name = "ONNX Runtime failed while running the model", self.executable.name
            raise engine_error(said, error, name, self._made_by(failed_node(error))) from error

    def _made_by(self, node: str | None) -> str:
        """What the node of that name makes, which bears the name of the layer that it was lowered from."""
        nodes = self.executable.graph.graph.all_nodes() if node is not None else ()
        return next((n.outputs[0].name or "" for n in nodes if n.name == node and n.outputs), "")

    def _run_stretch(self, stretch: Segment, arrays: Mapping[str, object]) -> Mapping[str, object]:
        if not stretch.makes:
            return {}
        plain = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
        if lists := [name for name in arrays if name not in plain]:
            raise RunError("sequences are not carried from one stretch to the next", found=", ".join(lists))
        fed = {name: (element_type(array), array.shape) for name, array in plain.items()}
        with self._opening:
            if self._stretch is None or self._stretch[0] != (stretch, fed):
                self._stretch = None
                self._stretch = ((stretch, fed), self.pool.open(stretch.makes, fed))
            running = self._stretch[1]
        return self._run(running, stretch.makes, arrays)

    def _opened(self, extra: tuple[str, ...]) -> Runnable:
        if not extra:
            if self._plain is None:
                self._plain = self.pool.open(self._outputs)
            return self._plain
        # a session with more taps answers for fewer: opening one costs more than the values that are not asked for
        if self._tapped is None or not set(extra) <= set(self._tapped[0]):
            self._tapped = (extra, self.pool.open((*self._outputs, *extra)))
        return self._tapped[1]

    def close(self) -> None:
        self._tapped = None
        self._plain = None
        self._stretch = None
        self.pool.close()
