"""Predicts the error of each value of a graph, by the rules that tolerance.py states, from the scales that are measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from coreproof.conversion.operators import canonical_op, error_class, meaning, operation_of
from coreproof.model.graph import Graph, Node
from coreproof.model.numbers import UNIT_ROUNDOFF, dtype_name, share_of
from coreproof.pairing.operators import exponent_of, interpolates, makes_steps, scale_factor, summand_count
from coreproof.verification.arriving import (
    carried_error,
    coarse_after,
    exponent_error,
    gain_of_sum,
    level_after,
    quantisation_steps,
    shared_after,
    step_after,
    uneven_after,
)
from coreproof.verification.channels import Profile
from coreproof.verification.compressed_weights import Distance
from coreproof.verification.contrast import contrast_for, kept_of
from coreproof.verification.crossed import most_crossed
from coreproof.verification.error_state import ErrorState, measure
from coreproof.verification.error_stats import Measured, in_float32
from coreproof.verification.fills import ordinary_part
from coreproof.verification.further_errors import PER_PLACE, Further, longest_place
from coreproof.verification.ordinary import Added, ordinary_after, without_fills
from coreproof.verification.tolerance import EXACT, SMALLEST, TYPICAL, U32, VACUOUS, WORST, Tolerance

_HIDDEN = 0.25
"""Beside fills of so small a share of the whole value's scale, the ordinary elements are judged by themselves."""

LAST_BITS = 4 * U32
"""By how much a constant that a converter computed may differ from what an engine computes: both are correct roundings."""

BOTH_ROUNDED = math.sqrt(2 / 12)
"""What rounding to steps of one adds where both sides round, each evenly within a step."""

PER_STEP = 4.0
"""What a step of a layer without gates adds, in units of float32's rounding: engines write tanh as quotients of polynomials, and
nothing damps what is carried from step to step."""


class ErrorModel:
    """Predicts the error of every value of a graph, in its order, from the scales that the caller measures.

    ``stored`` gives the format in which a value is stored (the coarser of the two sides). A value without a partner
    on the other side counts with the scale that ``note_scale`` was told. ``measures`` keeps what was measured of the
    reference's values, for another prediction over the same ones. ``further``: by what share values are off besides
    (``further_errors``); ``weights``: how far compressed weights are, by the layers that read them
    (``compressed_weights``). ``faint``: of numbers below a format's smallest nothing need be left: zeros that are fed made them.
    """

    def __init__(
        self,
        graph: Graph,
        stored: Mapping[str, str],
        profiles: Mapping[str, Profile] | None = None,
        measures: dict[str, ErrorState] | None = None,
        further: Mapping[str, Further] | None = None,
        weights: Mapping[str, Distance] | None = None,
        *,
        faint: bool = False,
    ) -> None:
        self._graph = graph
        self._stored = stored
        self._profiles = profiles or {}
        self._measures = {} if measures is None else measures
        self._further = further or {}
        self._weights = weights or {}
        self._faint = faint
        self._states: dict[str, ErrorState] = {}
        self._observed: dict[str, ErrorState] = {}
        self._guessed: dict[str, Node] = {}
        self._entered: set[str] = set()
        self._folded: set[str] = set()
        self._next = 0
        self.unsure: dict[str, float] = {}
        """Of values that are rounded to steps, by what share of its scale an element of what was rounded may be off."""

    def feed(self, name: str, array: np.ndarray, *, exact: bool = False, apart: float = 0.0) -> None:
        """A value that is fed: the same on both sides, save for rounding where one stores it in fewer bits.

        Inputs of the model before anything else; an inner value after it was judged, if it is, and before what follows.
        ``exact``: the value comes from the side that stores it in fewer bits, so that nothing is rounded. ``apart``: by how much
        (root mean square) the two sides differ there already, because each remembers its own.
        """
        self._entered.add(name)
        self._guessed.pop(name, None)
        measured, unit = self._measured(name, array), self._unit(name)
        # a float64 is fed to a side that computes in float32
        rounding = 0.0 if exact or (unit <= U32 and array.dtype != np.float64) else unit
        part = measured.ordinary
        self._states[name] = measured._replace(
            error=math.hypot(rounding * measured.scale, apart),
            ordinary=None if part is None else part._replace(error=math.hypot(rounding * part.scale, apart)),
        )

    def note_scale(self, name: str, array: np.ndarray | None, known: ErrorState | None = None) -> ErrorState:
        """Notes the scale of an inner value that will not be compared, before anything after it is judged; or one ``known``."""
        self._observed[name] = known or self._measure(name, np.asarray(array))
        return self._observed[name]

    def tolerance(self, name: str, reference: np.ndarray) -> Tolerance:
        """The tolerance for the value ``name``, of which ``reference`` is the right answer."""
        if reference.dtype.kind in "bOSU":
            return EXACT
        measured = self._measured(name, reference)
        self._advance(name, measured)
        known = self._states.get(name)
        unit = self._unit(name)
        scale = measured.scale
        step = known.step if known is not None else 0.0
        if reference.dtype.kind in "iu" and not step:
            return EXACT
        # what a converter stored was folded by other kernels than the engine's
        constant = max(unit, LAST_BITS) if self._is_stored(name) else unit
        error = known.error if known is not None else constant * scale
        reference_unit = UNIT_ROUNDOFF.get(dtype_name(reference.dtype), 0.0)
        if reference_unit > unit:  # the reference itself is rounded to fewer bits than what it is compared with
            unit, error = reference_unit, math.hypot(error, reference_unit * scale)
        # nothing to be a share of: the bound is absolute
        if scale == 0:
            return Tolerance(0.0, WORST * error, TYPICAL * unit, why=_why(0.0, unit), step=step)
        share = error / scale
        if step:
            crossed = most_crossed(error / step, measured.elements or 1)
            self.unsure[name] = known.unsure if known is not None else 0.0
            several = WORST * error if error > step else 0.0
            return Tolerance(0.0, several, min(crossed * step / scale, VACUOUS), why=_why_steps(error, step), step=step)
        uneven = known.uneven if known is not None else 1.0
        # whatever came in, half of a value's scale is not the same value; of terms that cancel nothing but their rounding is left
        most = max(VACUOUS / TYPICAL, known.noise / scale if known is not None else 0.0)
        whole = WORST * min(share * uneven, most), TYPICAL * min(share, most)
        part = known.ordinary if known is not None else None
        if part is not None and 0 < part.scale <= _HIDDEN * scale:
            beside = math.hypot(part.error, reference_unit * part.scale) / part.scale
            # where rounding hides the rest behind the fills, nothing more can be said than of the whole
            if beside < most:
                return Tolerance(
                    WORST * min(beside * uneven, most), 0.0, TYPICAL * beside, why=_why(beside, unit), filled=whole
                )
        coarse = known.coarse if known is not None else 0.0
        return Tolerance(whole[0], 0.0, whole[1], why=_why(share, unit), coarse=coarse)

    def measured(self, name: str) -> Measured | None:
        """What was measured of the value ``name`` for its tolerance, that need not be measured again to judge it."""
        known = self._measures.get(name)
        return None if known is None or known.ends is None else Measured(known.scale, *known.ends)

    def accept(self, name: str, error: float, ordinary: float | None = None, single: float = 0.0) -> None:
        """Notes the root-mean-square error that was found at ``name`` and accepted: what follows starts from it.

        ``ordinary`` is that of the elements beside its fills, where it holds some. ``single`` is the share of its
        size (of the scale, if that is larger) by which a single element is off: where a function is steep at a few points, these
        stand further above the rest than any bound that follows from the rest would let them.

        So each operator answers for what it adds itself, however deep it stands. Not less than the operator's own error
        counts: in another run, with other values brought out, the engine may have computed it in another order.
        """
        known = self._states.get(name)
        if known is not None:
            # no other run has another integer where this one had the same
            found = error if self._dtype(name).startswith(("int", "uint")) else max(error, known.own)
            # what was found is taken to be spread over the elements as what was predicted
            shared = found * min(1.0, known.shared / known.error) if known.error > 0 else 0.0
            part = known.ordinary
            if part is not None and ordinary is not None:
                part = part._replace(error=max(ordinary, min(part.own, part.error)))
            level = found * min(1.0, known.level / known.error) if known.error > 0 else 0.0
            typical = share_of(found, known.scale) if part is None else share_of(part.error, part.scale)
            uneven = max(known.uneven, single / (WORST * typical)) if typical > 0 else known.uneven
            self._states[name] = known._replace(error=found, shared=shared, level=level, ordinary=part, uneven=uneven)

    def _measured(self, name: str, reference: np.ndarray) -> ErrorState:
        known = self._measures.get(name)
        if known is None:
            known = self._measures[name] = self._measure(name, reference)
        elif not known.scale and np.any(reference):
            # computed once more from what arrived, it is another value: a floor at its edge makes one of what was all zero
            return self._measure(name, reference)
        return known

    def _measure(self, name: str, array: np.ndarray) -> ErrorState:
        graph, array = self._graph, in_float32(array)
        known = measure(array)
        return known._replace(
            contrast=contrast_for(graph, name, array),
            kept=kept_of(graph, name, array),
            ordinary=ordinary_part(array, known.peak * known.scale),
        )

    def _advance(self, name: str, measured: ErrorState) -> None:
        """Walks the graph up to the node that makes ``name``, and puts the measured scale in."""
        if name in self._guessed:  # passed on the way to a value behind it; nothing said then how large it is
            node = self._guessed.pop(name)
            self._states[name] = self._after(node, name, measured)
        if name in self._states:
            return
        nodes = self._graph.nodes
        while self._next < len(nodes):
            node = nodes[self._next]
            self._next += 1
            made = name in node.outputs
            for output in node.outputs:
                if output in self._entered or self._is_stored(output):
                    continue  # a compressed weight is a weight, and no value that errs
                if (
                    output != name
                    and output not in self._observed
                    and node.inputs
                    and all(map(self._is_stored, node.inputs))
                ):
                    self._folded.add(output)
                    continue
                self._states[output] = self._after(node, output, measured if output == name else None)
                if output != name and output not in self._observed:
                    self._guessed[output] = node
            if made:
                return

    def _after(self, node: Node, output: str, known: ErrorState | None) -> ErrorState:
        read, chosen = self._operands(node, output)
        arriving = max((s.scale for s in read), default=0.0)
        if known is not None:
            measured = known
        elif output in self._observed:
            measured = self._observed[output]
        else:
            # neither side can bring it out: taken to be as large as what it was made from
            measured = ErrorState(0.0, arriving, max((s.deviation for s in read), default=0.0))
        scale = measured.scale
        # terms that cancel in the result leave their errors behind: the size that counts is that before cancelling
        # a cast, or what moves, has the profile of what it is made from, and amplifies nothing
        keeps = error_class(operation_of(node)) == "move" or canonical_op(node.operator) == "cast"
        gain = None if keeps else self._gain(output) or gain_of_sum(node, read, measured)
        summands = max(scale, gain * read[0].scale) if gain is not None and read else scale
        if read and interpolates(node.operator):
            # by what its place is off, it is off as far as neighbours differ, however small it is itself
            summands = max(summands, read[0].scale)
        further = self._further.get(output, Further())
        share, floor = self._added_error(node, output, read, measured.elements), self._floor(node, output)
        own = math.hypot(share * summands, further.share * summands, further.absolute, floor)
        # what stands at another index is another number: two of a size are 1.4 of it apart
        strayed = math.sqrt(2.0) * scale * max((min(1.0, s.error / s.step) for s in chosen if s.step), default=0.0)
        carried = carried_error(node, without_fills(node, read, measured), measured)
        scaled = len(read) == 1 and read[0].scale > 0 and (self._is_scaled(node) or scale_factor(node) is not None)
        if len(read) == 1 and read[0].scale and self._is_scaled(node):
            carried = read[0].error * scale / read[0].scale
        if gain is not None and read:
            carried = max(carried, gain * read[0].error)
        if (counted := quantisation_steps(node, read, measured)) is not None:
            carried = counted * read[0].error
            own = math.hypot(own, counted * self._unit(node.inputs[0]) * read[0].scale)  # its scale is rounded too
        # by so much a compressed weight is off, which what it is added to does not make larger
        known_off = self._weights.get(node.name, Distance())
        off = known_off.absolute if error_class(operation_of(node)) == "add" else known_off.share * summands
        error, step = math.hypot(carried, own, off, strayed), step_after(node, read)
        if self._dtype(output) == "bool" or meaning(node.operator).get(
            "compares", False
        ):  # booleans have to be equal, and choose without error
            return measured._replace(error=0.0, own=0.0, step=0.0, ordinary=None)
        truncates = (
            canonical_op(node.operator) == "cast"
            and self._dtype(output).startswith(("int", "uint"))
            and self._dtype(next(iter(node.inputs), "")) != "bool"
        )
        kind = error_class(operation_of(node))
        # what lies on the wrong side of an edge is told apart where that edge was crossed, however far it is now
        unsure = max((s.unsure for s in read), default=0.0) if kind in ("move", "add", "elementwise") else 0.0
        if (makes_steps(node.operator) or truncates) and not step:
            step, unsure = 1.0, max(unsure, _unsure(read, own if unsure else error))
            # the share of elements that lies at an edge, each a step off; what is more than that is off by several
            error = max(math.sqrt(min(1.0, 2 * error)) * step, math.hypot(error, BOTH_ROUNDED) if error > 1 else 0.0)
        shared = min(error, shared_after(node, read, measured, own, share * scale))
        uneven = max(further.uneven, uneven_after(node, read, measured))
        part = ordinary_after(
            *(node, read, measured, error),
            Added(share, max(further.share, known_off.share), floor, gain, scaled, shared),
        )
        noise = max(max(self._unit(output), U32) * summands, floor if self._faint else 0.0)
        if kind == "move" or canonical_op(node.operator) == "cast":
            noise = max((s.noise for s in read), default=0.0)  # it stays what is left of its terms
        level = math.hypot(level_after(kind, read), off) if kind == "add" else level_after(kind, read)
        return measured._replace(
            error=error,
            uneven=uneven,
            own=own,
            step=step,
            shared=shared,
            level=level,
            ordinary=part,
            noise=noise,
            unsure=unsure,
            coarse=coarse_after(node, read, step, counted),
        )

    def _operands(self, node: Node, output: str) -> tuple[list[ErrorState], list[ErrorState]]:
        """What the operator computes with, and the integers that say which of it a result of floating-point numbers takes."""
        names = [name for name in node.inputs if name in self._states]
        whole = ("int", "uint", "bool")
        chosen = set[str]()
        if error_class(operation_of(node)) == "move" and "float" in self._dtype(output):
            chosen = {name for name in names if self._dtype(name).startswith(whole)}
        return [self._states[n] for n in names if n not in chosen], [self._states[n] for n in names if n in chosen]

    def _is_stored(self, name: str) -> bool:
        """Whether a value is a constant, or made of nothing but constants and brought out by nobody."""
        if name in self._folded or self._graph.is_constant(name):
            return True
        node = self._graph.producer(name)
        # a layer of a NeuralNetwork that reads nothing gives out the weight it holds, and so does a node of an older ONNX export
        holds = node is not None and (bool(node.parameters) or canonical_op(node.operator) == "constant")
        return node is not None and not node.inputs and holds

    def _dtype(self, name: str) -> str:
        value = self._graph.values.get(name)
        return (value.dtype or "") if value is not None else ""

    def _gain(self, output: str) -> float | None:
        profile = self._profiles.get(output)
        return None if profile is None else profile.gain

    def _added_error(self, node: Node, output: str, read: Sequence[ErrorState], elements: int | None) -> float:
        """The error that this operator adds, as a share of the result's scale."""
        kind = error_class(operation_of(node))
        unit = self._unit(output)
        if kind == "move":
            # an untyped copy rounds where it is stored in fewer bits than what it copies
            coarser = unit > max((self._unit(n) for n in node.inputs if n in self._states), default=unit)
            # what moves beside a stored number was made by a converter, which folds as it likes
            if any(map(self._is_stored, node.inputs)) or _holds_numbers(node):
                return max(unit, LAST_BITS)
            return unit if coarser else 0.0
        summed = summand_count(node, tuple(s.elements for s in read), elements)
        # the sum in either engine's order, and the result stored: in float32 by both sides, so twice
        squares = [(U32 * math.sqrt(summed)) ** 2, max(unit, 2 * U32) ** 2]
        if kind == "linear":
            squares.append(self._weight_error(node) ** 2)
        if kind == "linear" and canonical_op(node.operator).startswith("rnn"):
            squares.append((PER_STEP * U32 * self._steps(node)) ** 2)
        if (exponent := exponent_of(node)) is not None and read:
            squares.append(exponent_error(exponent, read[0], unit) ** 2)
        if interpolates(node.operator):
            squares.append((PER_PLACE * U32 * self._longest(node, read)) ** 2)
        if kind == "norm" and read and read[0].contrast is not None:
            # the mean that is taken away is rounded as well, however little remains
            squares.append((U32 * read[0].contrast.typical) ** 2)
        return math.sqrt(sum(squares))

    def _steps(self, node: Node) -> int:
        """The length of the sequence that a layer reads: its first axis, or its second where the batch comes first."""
        value = self._graph.values.get(node.inputs[0]) if node.inputs else None
        lengths = [n for n in (value.shape or ())[:2] if isinstance(n, int)] if value is not None else []
        return max(lengths, default=1)

    def _longest(self, node: Node, read: Sequence[ErrorState]) -> float:
        """The largest place at which an interpolation reads: the longest axis behind batch and channels."""
        return longest_place(node, self._graph) or (math.sqrt(read[0].elements or 1) if read else 1.0)

    def _is_scaled(self, node: Node) -> bool:
        """Whether the operator multiplies or divides one value by a number that is stored as an array of one."""
        if canonical_op(node.operator) not in ("mul", "realdiv", "divide"):
            return False
        sizes = [math.prod(shape) for _, shape in node.parameters.values()]
        for name in node.inputs:
            value = self._graph.values.get(name)
            if name not in self._states and name not in node.parameters and value is not None and value.constant:
                sizes.append(math.prod(n if isinstance(n, int) else 0 for n in value.shape or (0,)))
            elif self._is_stored(name) and (maker := self._graph.producer(name)) is not None:
                # a NeuralNetwork loads its constants by layers
                sizes += [math.prod(shape) for _, shape in maker.parameters.values()]
        return bool(sizes) and all(size == 1 for size in sizes) and node.inputs[0] in self._states

    def _floor(self, node: Node, output: str) -> float:
        """The absolute error of storing a number too small for the format's full precision."""
        # a stored number beside what is moved was rounded when it was stored: an epsilon of 1e-6 is 1% off in float16
        stored = any(map(self._is_stored, node.inputs)) or _holds_numbers(node)
        if error_class(operation_of(node)) == "move" and not stored:
            return 0.0
        return SMALLEST.get(self._stored.get(output, "float32"), 0.0) / 2

    def _weight_error(self, node: Node) -> float:
        """The coarsest format in which this node's weights are stored, also where other nodes unpack them."""
        dtypes = [dtype for dtype, _ in node.parameters.values()]
        waiting, seen = list(node.inputs), set[str]()
        while waiting:
            name = waiting.pop()
            producer = self._graph.producer(name)
            if name not in seen and producer is not None and producer.operator.startswith("constexpr_"):
                # a mask says where weights are, and rounds none of them
                dtypes.extend(dtype for key, (dtype, _) in producer.parameters.items() if "mask" not in key)
                waiting += producer.inputs
            seen.add(name)
        if node.name in self._weights:  # of which it is known how far they are off
            dtypes = [dtype for dtype in dtypes if dtype in UNIT_ROUNDOFF]
        return max((_stored_error(d) for d in dtypes), default=0.0)

    def _unit(self, name: str) -> float:
        return UNIT_ROUNDOFF.get(self._stored.get(name, "float32"), U32)


def _unsure(read: Sequence[ErrorState], error: float) -> float:
    """The share of its scale that an element may be off by, of what is rounded to steps."""
    uneven = max((s.uneven for s in read), default=1.0)
    return (
        WORST * uneven * share_of(math.hypot(error, *(s.own for s in read)), max((s.scale for s in read), default=0.0))
    )


def _holds_numbers(node: Node) -> bool:
    """Whether a constant of several numbers stands in the node itself."""
    return any(dtype.startswith("float") and math.prod(shape) > 1 for dtype, shape in node.parameters.values())


def _stored_error(dtype: str) -> float:
    if dtype in UNIT_ROUNDOFF:
        return UNIT_ROUNDOFF[dtype]
    digits = "".join(c for c in dtype if c.isdigit())
    if not dtype.startswith(("int", "uint")) or not digits or int(digits) > 16:
        return 0.0
    return 8 / math.sqrt(12) / (2.0 ** int(digits) - 1)  # rule 1 of tolerance.py: eight deviations in even steps


def _why_steps(error: float, step: float) -> str:
    off = (error / step) * (error / step)
    return (
        f"rounded to steps of {step:g}; what arrives explains that {off:.1e} of the elements lie at an edge and come out one "
        f"step off; {TYPICAL**2:g} times as many are allowed, and what chance adds to a small count"
    )


def _why(share: float, unit: float) -> str:
    bits = round(-math.log2(unit))
    return (
        f"stored with {bits} significant bits; rounding up to here explains an error of {share:.1e} of the scale; "
        f"{TYPICAL:g} times that is allowed typically, {WORST:g} times at a single element"
    )
