"""What a converted model remembers: which pairs of an input and an output become states, and which stay what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.features import ios_version
from coreproof.model.coreml.close_states import SINCE, close_states
from coreproof.model.remembered import note_pairs

if TYPE_CHECKING:
    from coreproof.conversion.onnx_to_coreml.program import Built
    from coreproof.model.coreml.proto import Model_pb2

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class StatePlan:
    """``closed`` become states, ``kept`` stay inputs and outputs, by the names of ONNX; ``version`` is the iOS to make for."""

    version: int
    closed: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def apply(self, spec: Model_pb2.Model, built: Built, where: str) -> None:
        """Closes the states of a finished program, and notes in its metadata what is left to be handed on."""
        names = {plan.value: plan.name for plan in built.outputs}

        def own(pairs: Mapping[str, str]) -> dict[str, str]:
            return {built.names.identifier_for(given): names[made] for given, made in pairs.items() if made in names}

        if self.closed:
            close_states(spec, own(self.closed), where)
        note_pairs(spec.description.metadata.userDefined, own(self.kept))


def plan_states(
    pairs: Mapping[str, str], graph: ir.Graph, to: Literal["mlprogram", "neuralnetwork"], target: str | None
) -> StatePlan:
    """What becomes of each pair. Without a ``target`` a program with states is made for the first system that has them.

    Core ML's states hold float16: a counter of whole numbers stays an input and an output, and a note says so.
    """
    version = ios_version(target, to)
    if not pairs:
        return StatePlan(version)
    dtypes = {value.name: value.dtype for value in graph.inputs}
    floats = {given: made for given, made in pairs.items() if dtypes.get(given) in _FLOATS}
    if target is None and to == "mlprogram" and floats:
        version = SINCE
    if to != "mlprogram" or version < SINCE:
        handed = ", ".join(f"{given} -> {made}" for given, made in pairs.items())
        why = "a NeuralNetwork has no states" if to != "mlprogram" else f"iOS {version} has no states"
        return StatePlan(version, {}, pairs, (f"{why}: whoever runs the model hands on what it remembers ({handed})",))
    rest = {given: made for given, made in pairs.items() if given not in floats}
    notes = tuple(
        f"{given} holds {str(dtypes.get(given)).lower()}, and a Core ML state float16: it stays an input, and {made} an output"
        for given, made in rest.items()
    )
    return StatePlan(version, floats, rest, notes)
