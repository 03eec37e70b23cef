"""forecast: what float16 will do to a model, before any device is at hand.

The model is made an ML Program in which every operation can compute in float16 or in float32, as a run says
(``MixedProgram``). One run in float32 gives the ranges and the right outputs, one in float16 the outputs to expect; more
runs, with some operations in each, say how much an operation matters and which have to stay in float32.

What is not modelled: how an accelerator adds up inside one operation. Here sums are formed in float32 and rounded once, which is
the least that any engine loses; Apple's Neural Engine may add up in float16 and lose more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from coreproof.errors import ConversionError, RunError
from coreproof.feeding.drawn import Feeds, Inputs, Sample, random_feeds
from coreproof.feeding.inputs import describe, hand_over, samples
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Graph, Node
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.opened import opened
from coreproof.model.progress import Progress, silent
from coreproof.precision.float16_report import Float16Output, Float16Report, Float16Row
from coreproof.precision.minimal_set import Trials, minimal_set
from coreproof.precision.mixed import FullWeights, MixedProgram
from coreproof.precision.ranges import OperationRange, measure_ranges
from coreproof.verification.tolerance import Judgement, Tolerance, judge

AT_MOST = 0.05
"""An output that is off by more than this share of its scale is wrong, also where rounding explains it."""

MEASURED = 24
"""How many operators' share of the output's error is measured, one run each: those that add most, and all suspects."""


def forecast(
    model: Model | str | Path,
    inputs: Inputs | Feeds | None = None,
    *,
    at_most: float = AT_MOST,
    measured: int = MEASURED,
    search: bool = True,
    weights: FullWeights | None = None,
    memory: int = 1 << 28,
    shapes: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Float16Report:
    """Predicts what float16 does to ``model``: PyTorch, ONNX, NeuralNetwork, or an ML Program in float32 or float16.

    ``inputs``: a mapping name -> array, or several; default seeded random values, which are a poor guess where the real ones
    are larger: give real ones. ``at_most``: the error that an output may have, as a share of its scale, within what ``verify``
    allows float16. ``measured``: for how many operators the error carried to the output is measured. ``search``: whether
    the smallest set that must stay in float32 is looked for when the outputs would not agree. ``weights``: those of a
    float16 program as they were before they were rounded, (operation, argument) -> weight. ``memory``: bytes of inner
    values held at a time. ``shapes``: those of inputs whose lengths are free, as ``convert`` takes them.

    A float16 program is compared with itself in ideal arithmetic on the weights that it stores: what their rounding cost
    before is not seen, unless ``weights`` tells. Raises RunError when the model gives NaN in float32 already,
    UnsupportedOperatorsError and ConversionError when it cannot be made an ML Program.
    """
    from coreproof.model.load import load

    # what a model remembers is fed like anything else
    given = opened(load(model))
    source, program = programs_of(given, shapes)
    switched = MixedProgram(program, weights)
    try:
        origin: str | bool = inputs is not None
        if isinstance(inputs, Feeds):
            origin, inputs = inputs.said, inputs.reference
        # drawn for the program, whose lengths are known where they were asked for
        feeds = [random_feeds(given, program if shapes else given)[0]] if inputs is None else samples(inputs)
        if inputs is not None and given.remembers:  # which nobody gives
            feeds = [{**random_feeds(given, given)[0], **sample} for sample in feeds]
        # under the names that Core ML has: "input.1" is input_1
        fed = [hand_over(sample, given.signature, program.signature)[1] for sample in feeds]
        work = _Forecast(given, source, program, switched, fed, at_most, memory, progress or silent)
        return work.report(describe(feeds, origin), measured, search)
    finally:
        switched.close()


def programs_of(model: Model, shapes: Mapping[str, object] | None = None) -> tuple[OnnxModel | None, CoreMLModel]:
    """The ONNX model on the way, if there is one, and the ML Program."""
    if isinstance(model, CoreMLModel) and model.is_program:
        return None, model
    if not (model.is_source or model.is_network):
        raise ConversionError(
            f"what float16 does to a {model.format} model cannot be predicted",
            where=model.name,
            expected="a PyTorch, ONNX, NeuralNetwork or ML Program model",
            fix="take a pipeline's stages one by one",
        )
    from coreproof.conversion.convert import convert
    from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml

    source = model if isinstance(model, OnnxModel) else convert(model, "onnx")
    assert isinstance(source, OnnxModel)
    program = onnx_to_coreml(source, "mlprogram", precision="fp32", shapes=shapes)
    if not program.is_program:
        raise ConversionError(
            "what float16 does to a model that takes or gives texts cannot be predicted: it becomes a pipeline",
            where=model.name,
            fix="its estimators are computed in float32 unless half is asked for",
        )
    return source, program


class _Forecast:
    """One prediction under way."""

    def __init__(
        self,
        model: Model,
        source: OnnxModel | None,
        program: CoreMLModel,
        switched: MixedProgram,
        feeds: Sequence[Sample],
        at_most: float,
        memory: int,
        progress: Progress,
    ) -> None:
        self.at_most = at_most
        self.model, self.source, self.program = model, source, program
        self.switched, self.feeds, self.progress = switched, feeds, progress
        self.unit_of = units(program, switched.order, source)
        self.members: dict[str, list[str]] = {}
        for name in switched.order:
            self.members.setdefault(self.unit_of[name], []).append(name)
        self.ideal = [switched.run(sample, ()) for sample in feeds]
        self._require_finite()
        self.seen: dict[str, OperationRange]
        self.tolerances: list[Mapping[str, Tolerance]]
        self.seen, self.tolerances = measure_ranges(switched, feeds, self.ideal, memory, progress)

    def _require_finite(self) -> None:
        for outputs in self.ideal:
            for name, value in outputs.items():
                if value.dtype.kind == "f" and np.isnan(value).any():
                    raise RunError(
                        f"the output {name!r} holds NaN in float32 already",
                        where=self.model.name,
                        found=f"{int(np.isnan(value).sum())} of {value.size}",
                        fix="float16 is not to blame: look for the fault with `coreproof doctor`",
                    )

    def report(self, fed: str, measured: int, search: bool) -> Float16Report:
        outputs = self._worst_judgements(self.switched.order)
        agrees = self._agrees(outputs)
        kept: tuple[str, ...] = ()
        minimal, tried = True, 0
        if not agrees and search:
            trials = Trials(list(self.members), self._agrees_with)
            found, minimal = minimal_set(trials, self._ranked)
            kept, tried = tuple(u for u in self.members if u in found), trials.done
        mended = self._worst_judgements(self._half_without(kept)) if kept else outputs
        # one run each, so only for those that may matter
        carried = self._carried(self._worth_measuring(measured, kept))
        return Float16Report(
            model=self.model.name,
            stored=self.switched.stored,
            inputs=fed,
            rows=self._rows(kept, carried),
            outputs=tuple(self._output(name, judgement) for name, judgement in outputs.items()),
            mended=tuple(self._output(name, judgement) for name, judgement in mended.items()),
            agrees=agrees,
            must_stay_fp32=kept,
            minimal=minimal,
            trials=tried,
            flushed_agrees=self._agrees(self._worst_judgements(self.switched.order, flushed=True)) if agrees else None,
        )

    # runs

    def _worst_judgements(self, in_half: Sequence[str], *, flushed: bool = False) -> dict[str, Judgement]:
        """The worst judgement of each output over the samples, with these operations in float16."""
        worst: dict[str, Judgement] = {}
        for sample, ideal, tolerances in zip(self.feeds, self.ideal, self.tolerances, strict=True):
            got = self.switched.run(sample, in_half, flushed=flushed)
            for name in self.switched.outputs:
                judgement = judge(ideal[name], got[name], tolerances[name])
                if name not in worst or _error(judgement) > _error(worst[name]):
                    worst[name] = judgement
        return worst

    def _good(self, judgement: Judgement) -> bool:
        # an output of zeros has no share to be off by
        return judgement.agrees and (judgement.scale == 0 or judgement.rms_relative_error <= self.at_most)

    def _half_without(self, kept: Sequence[str] | frozenset[str]) -> list[str]:
        return [name for name in self.switched.order if self.unit_of[name] not in kept]

    def _agrees_with(self, kept: frozenset[str]) -> bool:
        self.progress("smallest set in float32: trials", 1, 0)
        return self._agrees(self._worst_judgements(self._half_without(kept)))

    def _agrees(self, outputs: Mapping[str, Judgement]) -> bool:
        return all(map(self._good, outputs.values()))

    def _carried(self, chosen: Sequence[str]) -> dict[str, float]:
        """The error of the worst output when this unit alone computes in float16."""
        carried = {}
        for done, unit in enumerate(chosen):
            self.progress("error carried to the output", done, len(chosen))
            carried[unit] = max(_error(j) for j in self._worst_judgements(self.members[unit]).values())
        return carried

    def _worth_measuring(self, count: int, kept: Sequence[str]) -> list[str]:
        # what stands inside a branch or a loop cannot be brought out, and is not seen
        seen = {unit: [self.seen[n] for n in names if n in self.seen] for unit, names in self.members.items()}
        suspects = [unit for unit, ranges in seen.items() if unit in kept or any(r.suspect for r in ranges)]
        added = {unit: max((r.added for r in ranges), default=0.0) for unit, ranges in seen.items()}
        adding = [unit for unit in sorted(added, key=lambda unit: -added[unit]) if added[unit]]
        return list(dict.fromkeys([*suspects, *adding]))[:count]

    def _ranked(self) -> list[str]:
        """All units, the one whose rounding costs most first."""
        cost = self._carried(list(self.members))
        return sorted(self.members, key=lambda unit: -cost[unit])

    # what is handed back

    def _rows(self, kept: Sequence[str], carried: Mapping[str, float]) -> tuple[Float16Row, ...]:
        graph = self.source.graph if self.source is not None else None
        units = [(name, seen, self.unit_of.get(name, name)) for name, seen in self.seen.items()]
        return tuple(
            Float16Row(
                operator=seen.operator,
                layer=name,
                unit=unit,
                source=_module(graph, unit) or seen.source,
                smallest=seen.smallest,
                largest=seen.largest,
                status=seen.status,
                problem=seen.problem,
                error_added=seen.added,
                error_at_output=carried.get(unit),
                must_stay=unit in kept,
            )
            for name, seen, unit in units
        )

    def _output(self, name: str, judgement: Judgement) -> Float16Output:
        error, agrees, problem = _error(judgement), self._good(judgement), judgement.problem
        if not problem and not agrees:
            problem = f"off by {error:.2g} of its scale, more than {self.at_most:g}"
        return Float16Output(name, error, judgement.tolerance.typical, agrees, problem)


def _error(judgement: Judgement) -> float:
    """The root-mean-square error as a share of the scale; infinite where NaN or infinity stand instead of numbers."""
    unknown = judgement.misplaced or math.isnan(judgement.rms_relative_error)
    return math.inf if unknown else judgement.rms_relative_error


def _module(graph: Graph | None, value: str) -> str | None:
    node = graph.producer(value) if graph is not None else None
    return None if node is None else node.source


def units(program: CoreMLModel, order: Sequence[str], source: OnnxModel | None) -> dict[str, str]:
    """What can be kept in float32 as a whole: the ONNX value whose node became the operation, else the operation itself.

    An operation that equals no ONNX value is a step on the way to the next one that does.
    """
    switched = set(order)
    if source is None:
        return {name: name for name in order}
    unit_of: dict[str, str] = {}
    waiting: list[str] = []
    for node in _nodes(program.graph):
        name = node.outputs[0] if node.outputs else ""
        if name in switched:
            waiting.append(name)
        origin = next((program.provenance[o] for o in node.outputs if o in program.provenance), None)
        if origin is not None:
            unit_of.update(dict.fromkeys(waiting, origin))
            waiting = []
    unit_of.update({name: name for name in order if name not in unit_of})
    return unit_of


def _nodes(graph: Graph) -> list[Node]:
    """The nodes of the graph with those of nested blocks before the node that holds them."""
    found: list[Node] = []
    for node in graph.nodes:
        for block in node.blocks:
            found.extend(_nodes(block))
        found.append(node)
    return found
