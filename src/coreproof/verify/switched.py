"""Switched: an ML Program that runs with any of its operations in float16 and the others in float32."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coreproof.convert.coreml_to_onnx.mlprogram.program import lower_program
from coreproof.convert.coreml_to_onnx.mlprogram.switches import SWITCHES, Narrowed, Switches
from coreproof.model.coreml import CoreMLModel
from coreproof.model.features import Feature
from coreproof.run.lowered import Prepared
from coreproof.run.onnxruntime import OnnxRuntimeSession
from coreproof.verify.inputs import Sample

Given: TypeAlias = Mapping[tuple[str, str], npt.NDArray[Any]]
"""(operation, argument) -> the weight in full."""

_SESSIONS = 3
"""How many variants of the graph are held: constants that are known when it is made differ between them."""


class Switched:
    """A program made ready to run with each operation in the width that the caller says.

    ``order`` are the operations that have a switch, in the program's order; ``outputs`` the names of its outputs that
    hold numbers; ``narrowed`` what float16 does to their constants. ``stored`` is the width in which the program stores them;
    ``given`` are weights of a float16 program as they were before.
    """

    def __init__(self, program: CoreMLModel, given: Given | None = None) -> None:
        self.program = program
        self._given = given
        halves = any(v.dtype == "float16" for n in program.graph.nodes for v in _made(program, n.outputs))
        self.stored: str = "float16" if halves else "float32"
        self._sessions: dict[tuple[frozenset[str] | None, bool], OnnxRuntimeSession] = {}
        first = self._lower(None, flushed=False)
        self.order = tuple(first.order)
        self.narrowed: tuple[Narrowed, ...] = tuple(first.narrowed)
        self._variants = bool(first.fixed)
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
    ) -> dict[str, npt.NDArray[Any]]:
        """One run with the operations ``half`` in float16: the outputs, and the values ``taps``.

        ``NAME/exact`` taps the value of an operation before it is rounded.
        """
        on = np.zeros(len(self.order), bool)
        on[[self._index[name] for name in half]] = True
        # without constants that are known when the graph is made, one graph serves for all
        kept = None if not on.any() or not self._variants else frozenset(self.hostile.difference(half))
        if flushed and kept is None:
            kept = frozenset()
        running = self._session(kept, flushed)
        results = running.run({**sample, SWITCHES: on}, [*self.outputs, *taps])
        return {name: np.asarray(results[name]) for name in (*self.outputs, *taps)}

    def close(self) -> None:
        """Frees all variants."""
        for running in self._sessions.values():
            running.close()
        self._sessions.clear()

    def _session(self, kept: frozenset[str] | None, flushed: bool) -> OnnxRuntimeSession:
        key = (kept, flushed)
        if key not in self._sessions:
            if len(self._sessions) >= _SESSIONS:
                # the ideal one is asked for throughout
                oldest = next((k for k in self._sessions if k[0] is not None), next(iter(self._sessions)))
                self._sessions.pop(oldest).close()
            self._lower(kept, flushed=flushed)
        return self._sessions[key]

    def _lower(self, kept: frozenset[str] | None, *, flushed: bool) -> Switches:
        switches = Switches(
            kept, flushed=flushed, of="float16" if self.stored == "float16" else "float32", given=self._given
        )
        lowered = lower_program(self.program, switches=switches)
        extra = Feature(SWITCHES, "tensor", "bool", (len(switches.order),))
        signature = replace(lowered.signature, inputs=(*lowered.signature.inputs, extra))
        prepared = Prepared(lowered.model, signature, lowered.values, self.program.name, "coreproof's runtime")
        self._sessions[kept, flushed] = OnnxRuntimeSession(prepared)
        return switches

    @property
    def tappable(self) -> frozenset[str]:
        """Values that ``run`` can bring out."""
        return next(iter(self._sessions.values())).tappable


def _made(program: CoreMLModel, names: Sequence[str]) -> list[Any]:
    values = program.graph.values
    return [values[name] for name in names if name in values]
