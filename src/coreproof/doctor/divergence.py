"""A divergence as a test for shrink: whether a part of a model, given the source's values, still goes another way than it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coreproof.doctor.case import Case
from coreproof.editing.submodels.submodel import Submodel, SubmodelBuilder
from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.features import Feature
from coreproof.pairing.taps import as_array
from coreproof.runtime.open import session
from coreproof.runtime.session import Session
from coreproof.validation.problem import Problem
from coreproof.validation.validate import inspect
from coreproof.verification.row import Row
from coreproof.verification.tolerance import Judgement, judge
from coreproof.verification.verification import Verification

Array = np.ndarray
_HELD = 1 << 28
"""Bytes of the source's values that are kept for the next part."""


class Divergence:
    """What distinguishes a model that runs from its source; a context manager.

    ``still_faulty`` feeds a part with the source's values at its inputs and holds its outputs against the source's, with the
    tolerances of the whole verification. A part may begin only at ``feedable`` values, those whose partner is known and has
    the same shape, and end only at ``observable`` ones, whose partner is known. Raises InputError when the two agree.
    """

    def __init__(self, model: Model, source: Model) -> None:
        self._case = Case(model, source)
        found = self._case.evidence.verification
        if found is None:
            raise InputError(
                "the model does not run, so nothing can be compared",
                where=model.name,
                found=str(self._case.evidence.failure),
                fix="say what is wrong with it: --while COMMAND",
            )
        if found.agrees:
            raise InputError(
                "the model agrees with the source, so there is no divergence to show",
                where=f"{source.name} and {model.name}",
                expected="a value that differs",
                found=f"{len(found.rows)} values that agree",
            )
        self.verification: Verification = found
        self._rows: dict[str, Row] = {row.candidate: row for row in found.rows}
        self._inputs = self._case.evidence.feeds.candidate[0]
        self._reference: Session = session(self._case.evidence.as_stored.source())
        self._held: dict[str, Array] = {}

    def observable(self, name: str) -> bool:
        """Whether the partner of a value is known."""
        return name in self._rows

    def feedable(self, name: str) -> bool:
        """Whether the source's value can stand in for this one: in another shape, the shape itself may be the fault."""
        row = self._rows.get(name)
        if row is None:
            return False
        of_source = self._values([row.reference])[row.reference].shape
        return [n for n in row.shape if n != 1] == [n for n in of_source if n != 1]

    def __enter__(self) -> Divergence:
        return self

    def __exit__(self, *raised: object) -> None:
        self._reference.close()

    def starts(self, builder: SubmodelBuilder) -> list[Submodel]:
        """The stretches that verify found to diverge by themselves, as submodels."""
        submodels = []
        for stretch in self.verification.stretches:
            # what may not be fed is computed by what lies before it, which then belongs to the part
            made = {name for node in stretch.layers for name in node.outputs}
            read = {name for node in stretch.layers for name in node.inputs} - made
            fed = frozenset(n for n in read if self.feedable(n) and builder.can_feed(n))
            submodels.append(Submodel(outputs=(stretch.row.candidate,), inputs=fed))
        return submodels

    def still_faulty(self, model: Model) -> bool:
        """Whether some output of this part differs from the source's."""
        if model is self._case.model:
            return True  # or there would be nothing to shrink: said when this was made
        return any(not row.agrees for row in self._judged(model))

    def evidence(self, model: Model) -> dict[str, Array]:
        """The inputs of a part by name, and what the source has at its outputs as "expected <output>"."""
        names = [feature.name for feature in model.signature.outputs if feature.name in self._rows]
        expected = self._values([self._rows[name].reference for name in names])
        inputs = {name: np.asarray(value) for name, value in self._fed(model).items()}
        return inputs | {f"expected {name}": expected[self._rows[name].reference] for name in names}

    def _judged(self, model: Model) -> list[Judgement]:
        """The outputs of a part that went another way in the whole.

        What agreed there agrees in a part that is fed the source's values. Its tolerance may rest on the error that was measured
        before it in the whole, and a part, which the engine arranges otherwise, may round a little more.
        """
        with session(model) as running:
            made = running.run(self._fed(model))
        names = [name for name in made if name in self._rows and not self._rows[name].agrees]
        expected = self._values([self._rows[name].reference for name in names])
        judgements = []
        for name in names:
            row = self._rows[name]
            right, value = expected[row.reference], as_array(made[name])
            # the order of elements is the same in all formats; lengths of 1 are not
            if value.size == right.size:
                value = value.reshape(right.shape)
            judgements.append(judge(right, value, row.tolerance))
        return judgements

    def _fed(self, model: Model) -> Mapping[str, object]:
        features = {f.name: f for f in model.signature.inputs}
        inner = [name for name in features if name not in self._inputs]
        values = self._values([self._rows[name].reference for name in inner])
        fed = {name: self._inputs[name] for name in features if name in self._inputs}
        return fed | {name: _shaped(values[self._rows[name].reference], features[name]) for name in inner}

    def _values(self, names: list[str]) -> dict[str, Array]:
        """Values of the source, from what is held where possible."""
        missing = [n for n in dict.fromkeys(names) if n not in self._held]
        if missing:
            taps = [n for n in missing if n in self._reference.tappable]
            made = self._reference.run(self._case.evidence.feeds.reference[0], taps)
            # what the next part needs are mostly values of this one: the others go first
            if sum(a.nbytes for a in self._held.values()) > _HELD:
                self._held = {n: a for n, a in self._held.items() if n in names}
            self._held.update({n: as_array(made[n]) for n in missing})
        return {n: self._held[n] for n in names}


def _shaped(value: Array, feature: Feature) -> Array:
    """The source's value in the shape that the part declares for it."""
    shape = feature.shape
    if shape is None or not all(isinstance(d, int) for d in shape):
        return value
    wanted = tuple(d for d in shape if isinstance(d, int))
    return value.reshape(wanted) if int(np.prod(wanted)) == value.size else value


def fatal_problem(model: Model) -> Problem | None:
    """The first thing that keeps a model from running; None where inspection finds none."""
    return next((p for p in inspect(model).problems if p.fatal), None)


def clashing(builder: SubmodelBuilder, problem: Problem) -> frozenset[str]:
    """The values whose shapes clash in the problem's layer: fed from outside, nothing would show where they come from."""
    if problem.kind not in ("shape", "rank"):
        return frozenset()
    return frozenset(n for layer in builder.layers if layer.name == problem.layer for n in layer.reads)
