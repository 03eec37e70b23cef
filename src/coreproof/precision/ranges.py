"""What every operation of a program makes, in float32 and in float16: its range, what rounding loses, where infinities begin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from coreproof.conversion.coreml_to_onnx.mlprogram.switches import ROUNDS_TO_INFINITY, SMALLEST_NORMAL, Narrowed
from coreproof.conversion.coreml_to_onnx.rounding import rounds
from coreproof.feeding.drawn import Sample
from coreproof.model.graph import Graph, Node
from coreproof.model.numbers import FLOAT16_MAX, rms
from coreproof.model.progress import Progress
from coreproof.pairing.taps import UNKNOWN_SIZE, as_array, batched
from coreproof.precision.float16_report import Status
from coreproof.precision.mixed import MixedProgram
from coreproof.verification.channels import Profile, profiles
from coreproof.verification.error_model import ErrorModel
from coreproof.verification.tolerance import Tolerance

MUCH = 0.05
"""The share of a result that rounding may take; ordinary rounding takes 0.0003."""


@dataclass
class OperationRange:
    """What is known of one operation after all samples."""

    operator: str
    source: str | None = None
    inputs: tuple[str, ...] = ()
    largest: float = 0.0
    smallest: float = math.inf
    rounding: float = 0.0
    beyond: int = 0
    infinite: bool = False
    nan: bool = False
    constants: list[Narrowed] = field(default_factory=list)
    status: Status = "ok"
    problem: str = ""

    @property
    def suspect(self) -> bool:
        """Whether float16 may harm the operation."""
        return self.status != "ok"

    @property
    def added(self) -> float:
        """The error that rounding the result and the weights adds, as a share of the result's scale."""
        # a single number that is rounded scales all of the result alike, and an epsilon hardly any of it
        weights = [n.error for n in self.constants if n.argument != "epsilon" and n.elements > 1]
        return math.hypot(self.rounding, *weights)

    def look_at(self, ideal: np.ndarray, in_half: np.ndarray) -> None:
        """Takes in one result as float32 makes it and as it comes when everything is in float16."""
        values = ideal.astype(np.float64)
        size = np.abs(values[np.isfinite(values)])
        self.largest = max(self.largest, float(size.max(initial=0.0)))
        self.smallest = min(self.smallest, float(size[size > 0].min(initial=math.inf)))
        self.beyond += int((size >= ROUNDS_TO_INFINITY).sum())
        if rounds(self.operator):
            # what overflows is told apart; here counts what rounding costs the numbers that fit
            with np.errstate(over="ignore"):
                rounded = np.minimum(size.astype(np.float16).astype(np.float64), FLOAT16_MAX)
            scale = rms(size)
            self.rounding = max(
                self.rounding, rms(np.minimum(size, FLOAT16_MAX) - rounded) / scale if scale > 0 else 0.0
            )
        self.infinite |= bool((np.isinf(in_half) & np.isfinite(ideal)).any())
        self.nan |= bool((np.isnan(in_half) & ~np.isnan(ideal)).any())


def measure_ranges(
    switched: MixedProgram,
    feeds: Sequence[Sample],
    ideal: Sequence[Mapping[str, np.ndarray]],
    memory: int,
    progress: Progress,
) -> tuple[dict[str, OperationRange], list[Mapping[str, Tolerance]]]:
    """Every switched operation's results over all samples, and each sample's tolerance for each output.

    The tolerances are those that ``verify`` gives float16, predicted from the scales in float32.
    """
    graph = switched.program.graph
    nodes = {node.outputs[0]: node for node in graph.nodes if node.outputs}
    seen = {
        n: OperationRange(nodes[n].operator, nodes[n].source, nodes[n].inputs) for n in switched.order if n in nodes
    }
    for narrowed in switched.narrowed:
        if narrowed.operation in seen:
            seen[narrowed.operation].constants.append(narrowed)
    owner = {output: name for name in seen for output in nodes[name].outputs}
    tappable = switched.tappable
    taps = [o for node in graph.nodes for o in node.outputs if o in tappable]
    error_models = [_error_model(switched, graph, owner) for _ in feeds]
    for error_model, sample in zip(error_models, feeds, strict=True):
        for name, value in sample.items():
            error_model.feed(name, as_array(value))
    done = 0
    for group in batched(taps, memory, lambda n: 8 * _elements(graph, n)):  # both runs' values in float32
        for error_model, sample in zip(error_models, feeds, strict=True):
            wide = switched.run(sample, (), group)
            narrow = switched.run(sample, switched.order, group)
            for name in group:
                if wide[name].dtype.kind != "f":
                    continue
                error_model.note_scale(name, wide[name])
                if name in owner:
                    seen[owner[name]].look_at(wide[name], narrow[name])
        done += len(group)
        progress("ranges in float32 and float16", done, len(taps))
    tolerances: list[Mapping[str, Tolerance]] = [
        {name: error_model.tolerance(name, outputs[name]) for name in switched.outputs}
        for error_model, outputs in zip(error_models, ideal, strict=True)
    ]
    _judge(seen, owner)
    return seen, tolerances


def _error_model(switched: MixedProgram, graph: Graph, owner: Mapping[str, str]) -> ErrorModel:
    """Verify's prediction for the program with everything in float16, weights included."""
    stored = dict.fromkeys(owner, "float16")
    # an output may be stored in float32, but holds what float16 left of it
    stored.update(dict.fromkeys(switched.outputs, "float16"))
    nodes = tuple(_weights_in_half(node) if node.outputs and node.outputs[0] in owner else node for node in graph.nodes)
    return ErrorModel(replace(graph, nodes=nodes), stored, _profiles(switched))


def _weights_in_half(node: Node) -> Node:
    parameters = {k: ("float16" if d == "float32" else d, s) for k, (d, s) in node.parameters.items()}
    return replace(node, parameters=parameters)


def _profiles(switched: MixedProgram) -> dict[str, Profile]:
    from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx

    lowered = coreml_to_onnx(switched.program, precision="fp32")
    known = profiles(lowered.model.graph)
    return {own: known[name] for own, name in lowered.values.items() if name in known}


def _elements(graph: Graph, name: str) -> int:
    value = graph.values.get(name)
    if value is None or value.shape is None or not all(isinstance(d, int) for d in value.shape):
        return UNKNOWN_SIZE
    return math.prod(d for d in value.shape if isinstance(d, int))


# verdicts


def _judge(seen: Mapping[str, OperationRange], owner: Mapping[str, str]) -> None:
    for operation in seen.values():
        arriving = [seen[owner[name]] for name in operation.inputs if name in owner]
        operation.status, operation.problem = _status(operation, arriving)


def _status(op: OperationRange, arriving: Sequence[OperationRange]) -> tuple[Status, str]:
    received = any(a.infinite or a.nan for a in arriving)
    if op.beyond and (op.infinite or op.nan or received):
        return "overflow", f"results up to {op.largest:.2g} do not fit float16 (at most 65504)"
    if op.beyond:
        return "clipped", f"results up to {op.largest:.2g} end at 65504, like the constant that they come from"
    if op.nan and not any(a.nan for a in arriving):
        return "nan", "NaN appears here" + (", made of the infinities that arrive" if received else "")
    if op.infinite and not received:
        return "overflow", "infinite in float16" + (
            ", divided by a number that became zero" if op.operator in ("real_div", "rsqrt", "inverse", "log") else ""
        )
    constant = next((words for words in map(_constant, op.constants) if words), None)
    if constant is not None:
        return "constant", constant
    if op.infinite or op.nan:
        return "spread", "infinity or NaN arrives"
    if op.rounding > MUCH:
        return "underflow", (
            f"float16 loses {min(op.rounding, 1.0):.0%} of it: results of at most {op.largest:.2g}, "
            f"where full precision ends at {SMALLEST_NORMAL:.2g}"
        )
    return "ok", ""


def _constant(seen: Narrowed) -> str | None:
    what = f"{seen.argument}" if seen.elements == 1 else f"{seen.argument} ({seen.elements} numbers)"
    if seen.overflowing:
        return f"{what} reaches {seen.largest:.2g}: {seen.overflowing} beyond 65504"
    if seen.argument == "epsilon":
        return f"epsilon {seen.largest:.2g} is below float16's smallest number, 6e-8" if seen.vanished else None
    if seen.vanished and seen.error > MUCH:
        return f"{what} of at most {seen.largest:.2g}: {seen.vanished} become zero"
    if seen.error > MUCH:
        return f"{what} of at most {seen.largest:.2g} loses {seen.error:.0%}"
    return None
