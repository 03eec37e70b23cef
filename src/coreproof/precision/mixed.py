"""MixedProgram: an ML Program that runs with any of its operations in float16 and the others in float32."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from coreproof.conversion.coreml_to_onnx.mlprogram.program import lower_program
from coreproof.conversion.coreml_to_onnx.mlprogram.switches import SWITCHES, Narrowed, Switches
from coreproof.feeding.drawn import Sample
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature
from coreproof.runtime.executable import Executable
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.runtime.open import session
from coreproof.runtime.session import Session

FullWeights: TypeAlias = Mapping[tuple[str, str], np.ndarray]
"""(operation, argument) -> the weight in full."""

_SESSIONS = 3
"""How many variants of the graph are held: constants that are known when it is made differ between them."""


class MixedProgram:
    """A program made ready to run with each operation in the width that the caller says.

    ``order`` are the operations that have a switch, in the program's order; ``outputs`` the names of its outputs that
    hold numbers; ``narrowed`` what float16 does to their constants. ``stored`` is the width in which the program stores them;
    ``given`` are weights of a float16 program as they were before.
    """

    def __init__(self, program: CoreMLModel, given: FullWeights | None = None) -> None:
        self.program = program
        self._given = given
        self.stored: Literal["float16", "float32"] = "float16" if computes_in_float16(program) else "float32"
        self._sessions: dict[tuple[frozenset[str] | None, bool], OnnxRuntimeSession] = {}
        self._narrowed: dict[object, tuple[np.ndarray, Narrowed]] = {}
        # float32 throughout is the program itself in ideal arithmetic, which is quicker than with its switches off
        self._ideal = session(program, precision="fp32") if given is None else None
        first = self._lower(frozenset(), flushed=False)
        self.order = tuple(first.order)
        self.narrowed: tuple[Narrowed, ...] = tuple(first.narrowed)
        self._variants = bool(first.fixed)
        # constants that float16 breaks and that no switch reaches when the graph runs
        self.hostile = frozenset(
            n.operation for n in self.narrowed if n.operation in first.fixed and (n.overflowing or n.vanished)
        )
        signature = next(iter(self._sessions.values())).signature
        plain = [
            f.name for f in signature.outputs if f.name not in (signature.predicted_label, signature.probabilities)
        ]
        self.outputs = tuple(dict.fromkeys([*plain, *([signature.scores] if signature.scores else [])]))
        self._index = {name: i for i, name in enumerate(self.order)}

    def run(
        self, sample: Sample, half: Collection[str], taps: Sequence[str] = (), *, flushed: bool = False
    ) -> dict[str, np.ndarray]:
        """One run with the operations ``half`` in float16: the outputs, and the values ``taps``."""
        if not half and self._ideal is not None:
            return self._numbers(self._ideal, sample, taps)
        # the switches are an input of the graph, so that one session serves all trials
        on = np.zeros(len(self.order), bool)
        on[[self._index[name] for name in half]] = True
        # without constants that have to be known when the graph is made, one graph serves for all
        if not self._variants or flushed:
            kept: frozenset[str] | None = frozenset()
        else:
            kept = frozenset(self.hostile.difference(half)) if half else None
        return self._numbers(self._session(kept, flushed), {**sample, SWITCHES: on}, taps)

    def _numbers(self, running: Session, fed: Sample, taps: Sequence[str]) -> dict[str, np.ndarray]:
        names = (*self.outputs, *taps)
        results = running.run(fed, names)
        return {name: np.asarray(results[name]) for name in names}

    def close(self) -> None:
        """Frees all variants."""
        for running in self._sessions.values():
            running.close()
        self._sessions.clear()
        if self._ideal is not None:
            self._ideal.close()

    def _session(self, kept: frozenset[str] | None, flushed: bool) -> OnnxRuntimeSession:
        key = (kept, flushed)
        if key not in self._sessions:
            if len(self._sessions) >= _SESSIONS:
                # those without exceptions are asked for again and again
                oldest = next((k for k in self._sessions if k[0]), next(iter(self._sessions)))
                self._sessions.pop(oldest).close()
            self._lower(kept, flushed=flushed)
        return self._sessions[key]

    def _lower(self, kept: frozenset[str] | None, *, flushed: bool) -> Switches:
        switches = Switches(
            kept,
            flushed=flushed,
            of=self.stored,
            given=self._given,
            known=self._narrowed,
        )
        lowered = lower_program(self.program, switches=switches)
        extra = Feature(SWITCHES, "tensor", "bool", (len(switches.order),))
        signature = replace(lowered.signature, inputs=(*lowered.signature.inputs, extra))
        executable = Executable(lowered.model, signature, lowered.values, self.program.name, "coreproof's runtime")
        self._sessions[kept, flushed] = OnnxRuntimeSession(executable)
        return switches

    @property
    def tappable(self) -> frozenset[str]:
        """Values that ``run`` can bring out."""
        made = next(iter(self._sessions.values())).tappable
        return made if self._ideal is None else made & self._ideal.tappable


def computes_in_float16(model: Model) -> bool:
    """Whether the model is an ML Program that computes anything in float16."""
    values = model.graph.values
    made = (values[name] for node in model.graph.nodes for name in node.outputs if name in values)
    return model.is_program and any(value.dtype == "float16" for value in made)
