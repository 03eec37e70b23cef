"""Networks that are fed sequences: one that declares [C] or [C, H, W] also takes [Seq, Batch, C, H, W], as Core ML has it.

Recurrent NeuralNetworks describe one step, and are given as many as there are. How long a sequence is decides shapes all through
the network, so it is lowered for each length by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import TypeGuard

import numpy as np

from coreproof.conversion.coreml_to_onnx.neuralnetwork.network import lower_network, maps_to_rank5
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Signature
from coreproof.runtime.executable import Executable, executable_of
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.runtime.session import State, Values

_MOST_KEPT = 4
"""Lengths of which the session is kept."""
Shapes = dict[str, tuple[int, ...]]


def takes_sequences(model: Model) -> TypeGuard[CoreMLModel]:
    """Whether ``model`` is a network that may be fed sequences."""
    return isinstance(model, CoreMLModel) and model.kind.startswith("neuralNetwork") and maps_to_rank5(model)


def sequences(signature: Signature, inputs: Mapping[str, object]) -> Shapes:
    """The shapes of those ``inputs`` that are sequences of what is declared."""
    found: Shapes = {}
    for feature in signature.inputs:
        declared = tuple(feature.shape or ())
        value = inputs.get(feature.name)
        given = value.shape if isinstance(value, np.ndarray) and feature.kind == "tensor" else ()
        step = (*declared, 1, 1) if len(declared) == 1 else declared
        if len(given) == 5 and len(step) == 3 and given[2:] == step:
            found[feature.name] = given
    return found


def over(model: CoreMLModel, shapes: Shapes) -> Executable:
    """A network over sequences of these shapes; raises ConversionError where its layers do not take them."""
    made = executable_of(model, lower_network(model, "stored", shapes))
    inputs = tuple(
        replace(f, shape=shapes[f.name], ranges=(), enumerated=()) if f.name in shapes else f
        for f in made.signature.inputs
    )
    return replace(made, signature=replace(made.signature, inputs=inputs))


class SequenceSession(OnnxRuntimeSession):
    """A network over what it declares, and over sequences of that; the same otherwise."""

    def __init__(self, model: CoreMLModel, executable: Executable, *, threads: int | None = None) -> None:
        super().__init__(executable, threads=threads)
        self._network = model
        self._threads = threads
        self._over: OrderedDict[tuple[tuple[str, tuple[int, ...]], ...], OnnxRuntimeSession] = OrderedDict()
        self._making = Lock()

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        longer = self._longer(inputs)
        return super().run(inputs, taps, state) if longer is None else longer.run(inputs, taps, state)

    def walk(self, inputs: Mapping[str, object], groups: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
        longer = self._longer(inputs)
        yield from super().walk(inputs, groups) if longer is None else longer.walk(inputs, groups)

    def sizes(self, inputs: Mapping[str, object], taps: Sequence[str]) -> Mapping[str, int]:
        longer = self._longer(inputs)
        return super().sizes(inputs, taps) if longer is None else longer.sizes(inputs, taps)

    def _longer(self, inputs: Mapping[str, object]) -> OnnxRuntimeSession | None:
        """The session for the sequences among the inputs; None where there are none."""
        # of what the network declares: the session itself may be one over sequences of another length
        shapes = sequences(self._network.signature, inputs) if isinstance(inputs, Mapping) else {}
        if not shapes:
            return None
        key = tuple(sorted(shapes.items()))
        with self._making:
            if key not in self._over:
                self._over[key] = OnnxRuntimeSession(over(self._network, shapes), threads=self._threads)
                while len(self._over) > _MOST_KEPT:
                    self._over.popitem(last=False)
            self._over.move_to_end(key)
            return self._over[key]

    def close(self) -> None:
        for running in self._over.values():
            running.close()
        self._over.clear()
        super().close()
