"""Verification: what a comparison of two models found, row by row, and what it says about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from coreproof.model.graph import Node
from coreproof.model.notebook_view import NotebookView, Spoken
from coreproof.model.weakness import Weakness, failing, qualified, together
from coreproof.verification.compressed_weights import Compressed
from coreproof.verification.row import Row, Stretch
from coreproof.verification.stored_weights import Loss
from coreproof.verification.weaknesses import weaknesses_of
from coreproof.verification.whole_range import BEYOND
from coreproof.visible import visible


def apart(error: float) -> str:
    """How far outputs are apart, in words; nothing is no measure."""
    return f"outputs differ by at most {error:.2g} of their scale" if error else "outputs are equal"


@dataclass(frozen=True, repr=False)
class Verification(Spoken, NotebookView):
    """Two models compared. Truthy when every compared value agrees; ``rows`` stand in the candidate's order.

    Values may agree and prove little: ``weaknesses`` says so, and ``proves`` is whether every output proves something.
    ``samples`` is how many were fed, ``taken`` for what each drawn input of the reference was taken, ``untrained`` whether the
    weights are random ones. ``unpaired`` counts inner values of the candidate that have no partner (fused away on one side),
    ``lone`` are outputs of either side that have none, ``unmatched`` whether both sides have such. ``dismissed`` are those that
    were paired by guess and contradicted by what follows: not the same value, so no evidence. ``stretches`` are those that
    diverge by themselves, also when fed with the reference's values: several independent faults are all among them.
    ``suspects`` is the stretch of the first divergence. Of models that remember, ``steps`` counts the tokens of the sequence,
    and ``first_step`` is the first that diverges, from 1 on; the rows are then those of that step. ``compressed`` says how far
    compressed weights lie from the other side's, and whether the bits that they are stored in explain it; ``loss`` what that
    costs at the outputs, where the rows were held against the reference with those very weights. ``guarded`` are values of
    whole numbers that one side computes in 32 bits: a run in which one leaves them fails.
    """

    reference: str
    candidate: str
    rows: tuple[Row, ...]
    inputs: str
    engines: tuple[str, str]
    unpaired: int = 0
    dismissed: tuple[Row, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    suspects: Stretch | None = None
    samples: int = 1
    untrained: bool = False
    taken: Mapping[str, str] = field(default_factory=dict)
    lone: tuple[str, ...] = ()
    unmatched: bool = False
    steps: int = 0
    first_step: int | None = None
    compressed: Compressed = field(default_factory=Compressed)
    loss: Loss | None = None
    guarded: tuple[str, ...] = ()

    def _spoken(self) -> str:
        return self.summary()

    @property
    def agrees(self) -> bool:
        """Whether values were compared, and every one agrees."""
        return bool(self.rows) and all(row.agrees for row in self.rows)

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def first_divergence(self) -> Row | None:
        """The first row in topological order that is out of tolerance."""
        return next((row for row in self.rows if not row.agrees), None)

    @property
    def faults(self) -> tuple[Row, ...]:
        """The rows that go wrong by themselves, first one first; what merely follows from wrong inputs is left out.

        Empty where all agrees, and where the candidate's engine cannot run a part of it.
        """
        return tuple(stretch.row for stretch in self.stretches)

    @property
    def outputs(self) -> tuple[Row, ...]:
        """The rows of the outputs."""
        return tuple(row for row in self.rows if row.how == "output")

    @property
    def carried(self) -> tuple[Row, ...]:
        """Rows that are off only because of what arrived there: both sides compute them alike from the same values."""
        return tuple(row for row in self.rows if row.carried is not None and not row.judgement.agrees)

    @property
    def weak(self) -> tuple[Row, ...]:
        """Rows that agree and prove nothing: NaN on both sides, all zero, constant, or rounding alone may change half of them.

        The last is what float16 does to a network whose values shrink below its smallest number (6e-8).
        """
        return tuple(row for row in self.rows if row.weakness is not None)

    @cached_property
    def weaknesses(self) -> tuple[Weakness, ...]:
        """Why the agreement proves little, the outputs that prove nothing first; empty where the two diverge."""
        if not self.agrees:
            return ()
        return weaknesses_of(
            self.rows,
            self.samples,
            self.untrained,
            self.lone,
            self.loss,
            self.compressed.unexplained,
            unmatched=self.unmatched,
        )

    @property
    def proves(self) -> bool:
        """Whether all agrees, and every output proves something by that; the command line's exit code 0."""
        return self.agrees and not failing(self.weaknesses)

    @property
    def furthest(self) -> float:
        """The largest error of an output, as a share of its scale; index results that differ say nothing of a distance."""
        return max((r.judgement.max_relative_error for r in self.outputs if not r.switched), default=0.0)

    def summary(self) -> str:
        """The verdict first, then what it rests on; one line each."""
        failing = [row for row in self.rows if not row.agrees]
        if not failing:
            over = f" over {self.steps} tokens" if self.steps else ""
            agreement = f"{len(self.rows)} of {len(self.rows)} values agree{over}"
            measured = apart(self.furthest)
            if any(row in self.carried or (row.held and row.tolerance.coarse) for row in self.outputs):
                measured += f", which {_came_in(self.rows)}"
            if self.loss is not None and not self.loss.ruins:
                agreement += ", with the weights as they are stored"
                measured += f"; {self.loss}"
            lines = [qualified(agreement, self.weaknesses, measured)]
        else:
            first = failing[0]
            came_from = f" in {first.source}" if first.source else ""
            at = f" at token {self.first_step} of {self.steps}" if self.first_step else ""
            lines = [
                f"{len(failing)} of {len(self.rows)} values diverge{at}, first {first.candidate!r} "
                f"({first.operator}{came_from}): {first.judgement.problem}"
            ]
            lines.extend(self._where(first))
            if self.loss is not None:
                lines.append(f"that is with the weights as they are stored in {self.candidate}; {self.loss}")
        lines.extend(_of_lost_digits(self.weaknesses, self.rows))
        lines.append(f"{self.reference} ran on {self.engines[0]}, {self.candidate} on {self.engines[1]}")
        lines.append(f"inputs: {self.inputs}")
        lines.extend(f"  {name}: {taken}" for name, taken in self.taken.items())
        if self.unpaired:
            lines.append(f"not compared, for want of a partner: {self.unpaired} of {self.candidate}'s inner values")
        if self.carried:
            most = max(self.carried, key=lambda row: row.judgement.max_relative_error)
            off = f"{most.candidate!r}, {most.operator}: {most.judgement.max_relative_error:.2g} of its scale"
            are = "value is" if len(self.carried) == 1 else "values are"
            lines.append(
                f"{len(self.carried)} {are} off because of what arrived, and computed alike from the same values (most {off})"
            )
        if harmless := [row for row in self.rows if row.harmless]:
            are = "value leaves" if len(harmless) == 1 else "values leave"
            lines.append(
                f"{len(harmless)} {are} {_range_of(harmless[0])} without harm: what is made from it agrees (first "
                f"{harmless[0].candidate!r}, {harmless[0].judgement.clipped} of {harmless[0].judgement.elements} elements)"
            )
        if reaching := [row for row in self.rows if row.agrees and row.judgement.at_limit]:
            seen = reaching[0].judgement
            are = "value reaches" if len(reaching) == 1 else "values reach"
            lines.append(
                f"{len(reaching)} {are} the end of {reaching[0].dtype}'s range, where rounding decides whether a number is "
                f"infinite (first {reaching[0].candidate!r}, {seen.at_limit} of {seen.elements} elements on one side only)"
            )
        lines.extend(_of_guarded(self.guarded))
        lines.extend(_of_compressed(self.compressed, self.reference))
        lines.extend(_of_filled(self.rows))
        if switched := [row for row in self.rows if row.switched]:
            results = "index result differs" if len(switched) == 1 else "index results differ"
            lines.append(
                f"{len(switched)} {results} only between numbers that rounding cannot tell apart (first "
                f"{switched[0].candidate!r}, {switched[0].operator}: {switched[0].switched} indices)"
            )
        lines.extend(_of_turned(self.rows))
        if self.dismissed:
            names = ", ".join(row.candidate for row in self.dismissed[:3])
            lines.append(f"{len(self.dismissed)} pairs found by structure alone are not the same value ({names})")
        return "\n".join(visible(line) for line in lines)

    def _where(self, first: Row) -> list[str]:
        """What is to blame for the first divergence, and the tolerance with which it would have passed."""
        lines = []
        passing = first.passing
        # no tolerance lets a NaN or another shape pass
        if math.isfinite(passing.relative):
            lines.append(
                f"it would have passed with a tolerance of {passing.relative:.2g} of its scale, {passing.typical:.2g} typical "
                f"(rounding explains {first.tolerance.relative:.2g}, {first.tolerance.typical or 0.0:.2g} typical)"
            )
        if self.suspects is not None:
            lines.append(
                f"in question: {_named(self.suspects.layers)}; in {self.reference}: {_named(self.suspects.nodes)}"
            )
        if self.faults:
            names = ", ".join(
                repr(row.candidate) + (f" ({row.source})" if row.source else "") for row in self.faults[:5]
            )
            # five names show the kind; the rows have them all
            more = f" and {len(self.faults) - 5} more" if len(self.faults) > 5 else ""
            lines.append(f"wrong by themselves, when fed what {self.reference} has before them: {names}{more}")
        return lines

    def to_json(self) -> dict[str, object]:
        """The whole verification as JSON."""
        first = self.first_divergence
        return {
            "agrees": self.agrees,
            "proves": self.proves,
            "weaknesses": [weakness.to_json() for weakness in self.weaknesses],
            "summary": self.summary(),
            "reference": self.reference,
            "candidate": self.candidate,
            "engines": list(self.engines),
            "inputs": self.inputs,
            "taken_for": dict(self.taken),
            "samples": self.samples,
            "tokens": self.steps,
            "first_diverging_token": self.first_step,
            "outputs_without_partner": list(self.lone),
            "compressed_weights": self.compressed.to_json(),
            "compression_loss": None if self.loss is None else self.loss.to_json(),
            "guarded_integers": list(self.guarded),
            "unpaired": self.unpaired,
            "first_divergence": None if first is None else first.to_json(),
            "suspects": None if self.suspects is None else self.suspects.to_json(),
            "faults": [stretch.to_json() for stretch in self.stretches],
            "rows": [row.to_json() for row in self.rows],
            "dismissed": [row.to_json() for row in self.dismissed],
        }


def _of_compressed(found: Compressed, reference: str) -> list[str]:
    """In words, how far compressed weights lie from what they were made from."""
    lines = []
    # a layer with one weight that is too far off is told below, and not here as well
    known = {layer: off.share for layer, off in found.explained.items() if layer not in found.unexplained}
    for exchanged in (True, False):
        shares = {layer: share for layer, share in known.items() if (layer in found.exchanged) == exchanged}
        if not shares:
            continue
        furthest = max(shares, key=lambda layer: shares[layer])
        are = "a layer's weight is" if len(shares) == 1 else f"the weights of {len(shares)} layers are"
        explain = "what was pruned explains" if furthest in found.pruned else "its bits explain"
        then = f"{reference} ran with what is stored" if exchanged else "it is carried on like a rounding"
        lines.append(
            f"{are} compressed, and off by up to {shares[furthest]:.2g} of the weight's scale ({furthest!r}): {explain} "
            f"that, and {then}"
        )
    if found.unexplained:
        names = [f"{name!r} ({where})" if where else repr(name) for name, where in found.unexplained.items()]
        layers = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"compressed weights that are further from the other side's than their bits explain: {layers}")
    return lines


def _range_of(row: Row) -> str:
    return "32 bits" if row.judgement.problem.endswith(BEYOND) else "float16's range"


def _of_turned(rows: Sequence[Row]) -> list[str]:
    """In words, which angles lie where both pi and -pi are right."""
    turned = [row for row in rows if row.judgement.turned]
    if not turned:
        return []
    hold = "value holds" if len(turned) == 1 else "values hold"
    first = f"first {turned[0].candidate!r}, {turned[0].judgement.turned} of {turned[0].judgement.elements} elements"
    return [
        f"{len(turned)} {hold} angles that are pi on one side and -pi on the other, which is the same direction ({first})"
    ]


def _of_lost_digits(weaknesses: Sequence[Weakness], rows: Sequence[Row]) -> list[str]:
    """What a user can do where float16 may change half of an output."""
    lost = any(w.fails and w.kind == "rounding" for w in weaknesses) and any(row.dtype == "float16" for row in rows)
    feed, keep = "feed what the model is made for (`--inputs`)", "convert with `--keep-fp32 auto` or `--precision fp32`"
    return [f"to prove more: {feed}, or {keep}"] if lost else []


def _of_filled(rows: Sequence[Row]) -> list[str]:
    """Which values hold fills, if any do."""
    filled = [row for row in rows if row.judgement.filled]
    if not filled:
        return []
    hold = "value holds" if len(filled) == 1 else "values hold"
    seen = filled[0].judgement
    return [
        f"{len(filled)} {hold} fills far larger than all else, beside which the rest is judged by its own scale (first "
        f"{filled[0].candidate!r}, {seen.filled} of {seen.elements} elements)"
    ]


def _of_guarded(values: Sequence[str]) -> list[str]:
    """In words, which whole numbers are computed in fewer bits than the source has."""
    if not values:
        return []
    names = ", ".join(map(repr, values[:3])) + (", ..." if len(values) > 3 else "")
    are = "value of whole numbers is" if len(values) == 1 else "values of whole numbers are"
    return [f"{len(values)} {are} computed in 32 bits, and a run in which one does not fit them fails: {names}"]


def _came_in(rows: Sequence[Row]) -> str:
    """In words, what an output that is computed alike from the same values is off by."""
    stepped = sum(1 for row in rows if row.judgement.tolerance.step)
    if stepped:
        counted = "1 value is quantised" if stepped == 1 else f"{stepped} values are quantised"
        return f"came in: rounding before them brings numbers to another step of quantisation ({counted})"
    return "came in: they are computed alike from what arrives"


def _named(nodes: tuple[Node, ...], limit: int = 4) -> str:
    """The nodes' names and operators, the last ones where there are many."""
    words = [f"{node.name} ({node.operator})" for node in nodes[-limit:]]
    return ", ".join([f"{len(nodes) - limit} layers", *words] if len(nodes) > limit else words) or "nothing"


def joint_weaknesses(verifications: Sequence[Verification]) -> tuple[Weakness, ...]:
    """Those of several verifications that agree, as of one: inner values are counted over all, an output's name is said once."""
    agreeing = [found for found in verifications if found.agrees]
    outputs = together(w for found in agreeing for w in found.weaknesses if w.fails)
    rows = [row for found in agreeing for row in found.rows if row.how != "output"]
    # outputs, and what compression does to them, were said one by one above; inner values of all are counted together
    rest = weaknesses_of(rows, max((f.samples for f in agreeing), default=0), any(f.untrained for f in agreeing))
    # what is said of a whole verification, and of no single row, counts once
    others = together(
        w
        for f in agreeing
        for w in f.weaknesses
        if w.kind in ("unmoved", "uncompared", "tolerance", "compression") and not w.fails
    )
    return (*outputs, *others, *rest)
