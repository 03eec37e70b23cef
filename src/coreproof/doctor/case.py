"""Case: a model to examine and what it is examined with; Evidence: everything that is found out about both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from coreproof.doctor.source.as_stored import AsStored
from coreproof.doctor.source.feeds import all_drawn, candidates
from coreproof.doctor.source.source_batch import one_at_a_time
from coreproof.doctor.source.source_grid import with_meant_grid
from coreproof.editing.edit import Edit, edit
from coreproof.errors import (
    CoreproofError,
    InputError,
    MissingDependencyError,
    RunError,
    TooLargeError,
    UnsupportedModelError,
    UnsupportedOperatorsError,
)
from coreproof.feeding.drawn import Feeds, Sample, random_feeds, roles_for, taken_for
from coreproof.feeding.inputs import describe, hand_over
from coreproof.feeding.roles.role import Role
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.model.graph import Graph, Node
from coreproof.model.layer_weights import weights_by_layer
from coreproof.model.numbers import relative_rms, rms
from coreproof.model.opened import opened, without_memory
from coreproof.pairing.taps import as_array
from coreproof.runtime.open import session
from coreproof.runtime.session import Session
from coreproof.runtime.subgraph import run_subgraph
from coreproof.validation.problem import Problem
from coreproof.validation.validate import Inspection, inspect
from coreproof.verification.row import Row
from coreproof.verification.verification import Verification
from coreproof.verification.verify import verify

T = TypeVar("T")
Array = np.ndarray

_OUR_LIMITS = (UnsupportedOperatorsError, UnsupportedModelError, TooLargeError, MissingDependencyError, InputError)
"""Errors that say what coreproof cannot run, hold or feed, and nothing against the model."""


class Case:
    """A model under examination, and what was given to examine it with.

    ``source`` is the model that it should equal, ``labels`` the right class labels, ``photos`` pictures to try it on,
    ``classes`` the right class index of each photo, ``feeding`` how the source is fed, ``given`` arrays by input name to feed
    both; all may be unknown (None, empty). ``evidence`` is what is found out about it.
    """

    def __init__(
        self,
        model: Model,
        source: Model | None = None,
        *,
        labels: Sequence[str] | None = None,
        photos: Sequence[Path] = (),
        classes: Sequence[int] = (),
        feeding: Feeding | None = None,
        given: Sequence[Sample] = (),
    ) -> None:
        self.model = model
        self.source = source
        self.labels = tuple(labels) if labels is not None else None
        self.photos = tuple(photos)
        self.classes = tuple(classes)
        self.feeding = feeding or (source.feeding if source is not None else None)
        self.given = tuple(given)
        self.evidence = Evidence(self)

    @property
    def graph(self) -> Graph:
        """The layers of the model."""
        return self.model.graph

    @property
    def right_labels(self) -> tuple[str | int, ...] | None:
        """The class labels as they should be: given by the user, else the source's own."""
        if self.labels is not None:
            return self.labels
        return None if self.source is None else self.source.signature.labels

    def weights(self, layer: str) -> dict[str, Array]:
        """The weights of a layer, real values by name."""
        return self._read_weights(layer)

    @cached_property
    def _read_weights(self) -> Callable[[str], dict[str, Array]]:
        return weights_by_layer(self.model)  # rules ask for one layer after the other

    def after(self, edits: Sequence[Edit]) -> Case:
        """The same case with an edited model; EditError where the edits cannot be carried out."""
        # everything else of the case is the same, and evidence about the source stays true
        edited = copy(self)
        edited.model = edit(self.model, edits, check=False).model
        edited.evidence = self.evidence.of_edited(edited)
        return edited


class SourceEvidence:
    """What is found out about the source of a case; no edit of the model changes it."""

    def __init__(self, source: Model | None, model: Model) -> None:
        self._source = source
        self._model = model

    @cached_property
    def reference(self) -> Model | None:
        """The source as an ONNX or Core ML model, as it was meant: one sample at a time, on the exporter's own grid."""
        if self._source is not None and self._source.is_torch:
            from coreproof.conversion.convert import convert

            exported = convert(self._source, "onnx")
            if exported.remembers and not _as_step(self._model).remembers:
                raise InputError(
                    "the source remembers, and the model does not",
                    where=self._model.name,
                    expected=f"what holds {', '.join(exported.remembers)}",
                    found="a model whose answers depend on what it is fed alone",
                    fix="convert the module again, or hold it with its buffers as they are: --freeze-state, freeze_state=True",
                )
            return exported
        return None if self._source is None else with_meant_grid(one_at_a_time(self._source, self._model))

    @cached_property
    def conversion(self) -> Model | None:
        """The source carried to the model's own format anew, where it can be."""
        from coreproof.doctor.source.reference_conversion import convert_reference

        return convert_reference(self.reference, self._model)


class Evidence:
    """What is found out about a case, each fact when it is first asked for."""

    def __init__(
        self,
        case: Case,
        of_source: SourceEvidence | None = None,
        feeds: Feeds | None = None,
        reference_values: dict[tuple[frozenset[tuple[str, str]], str], Array] | None = None,
    ) -> None:
        self.case = case
        self.model = _as_step(case.model)
        self._of_source = of_source or SourceEvidence(case.source, case.model)
        self._feeds = feeds
        self._values: dict[str, Array] = {}
        self._found: dict[Callable[[Case], Any], Any] = {}
        self._reference_values = {} if reference_values is None else reference_values

    def of_edited(self, case: Case) -> Evidence:
        """The evidence of the same case with an edited model: what is known of the source, fed the same, holds for it still."""
        # other inputs are fed otherwise: what was chosen for the old ones says nothing
        if self._feeds is None or case.model.signature.inputs != self.model.signature.inputs:
            return Evidence(case, self._of_source)
        return Evidence(case, self._of_source, self._feeds, self._reference_values)

    def once(self, find: Callable[[Case], T]) -> T:
        """What ``find`` makes of this case: worked out when it is first asked for, and kept."""
        if find not in self._found:
            self._found[find] = find(self.case)
        found: T = self._found[find]
        return found

    # the model alone

    @cached_property
    def inspection(self) -> Inspection:
        """What can be told of the model without running it."""
        return inspect(self.case.model)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What cannot be right in the model, whatever it is for."""
        return self.inspection.problems

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of values, as far as inference came."""
        return self.inspection.shapes

    @cached_property
    def failure(self) -> CoreproofError | None:
        """Why the model does not run; None when it runs. One with a problem that keeps it from running is not tried."""
        first = next((p for p in self.problems if p.fatal), None)
        if first is not None:
            return RunError("the model cannot run", where=self.model.name, expected=first.expected, found=first.found)
        try:
            with session(self.model) as running:
                running.run(self.feeds.candidate[0] if self._feeds is not None else self._alone[0])
        except CoreproofError as error:
            return error
        return None

    @property
    def runs(self) -> bool:
        """Whether the model can be run here."""
        return self.failure is None

    @property
    def unsupported_here(self) -> bool:
        """Whether the model may be sound, and it is coreproof or its engine that cannot run this kind of model or operator."""
        return isinstance(self.failure, _OUR_LIMITS)

    @cached_property
    def lost(self) -> Mapping[str, float]:
        """The outputs that float16, as the model stores it, ruins, with their errors: seen without a source.

        The model's own inputs are asked for: photos where there are any, else random values.
        """
        from coreproof.precision.mixed import computes_in_float16
        from coreproof.precision.ruined_outputs import ruined_outputs

        if not (computes_in_float16(self.model) and self.runs):
            return {}
        return ruined_outputs(self.model, self.own_feeds)

    @cached_property
    def roles(self) -> Mapping[str, Role]:
        """What the model's inputs are for, as its operators tell."""
        return roles_for(self.model, self.model)

    @property
    def own_feeds(self) -> Sequence[Mapping[str, object]]:
        """What the model is fed where there may be no source to share it with."""
        from coreproof.feeding.user_inputs import photo_feeds

        if self._feeds is not None or self.reference is not None:
            return self.feeds.candidate
        takes_pictures = any(f.image is not None for f in self.model.signature.inputs)
        # two of them: each is run at every width that is tried
        feeding = self.case.feeding or self.model.feeding
        if self.case.photos and (takes_pictures or feeding is not None):
            return photo_feeds(self.model, self.model, self.case.photos[:2], (feeding, feeding)).candidate
        return self._alone

    @property
    def draws_alone(self) -> bool:
        """Whether it is draws that the model is fed where there is no source: neither arrays nor photos were given."""
        return not self.case.given and not self.case.photos

    @property
    def _alone(self) -> Sequence[Mapping[str, object]]:
        """What is given for the model, else drawn for it."""
        if self.case.given:
            known = self.case.source or self.model
            own, wanted = (without_memory(m.signature, m.remembers) for m in (self.model, known))
            given = [hand_over(sample, wanted, own)[1] for sample in self.case.given]
            # what it remembers is nothing that anybody gives
            return (
                [{**random_feeds(self.model, self.model)[1], **sample} for sample in given]
                if self.model.remembers
                else given
            )
        return [random_feeds(self.model, self.model)[1]]

    @property
    def fed(self) -> tuple[str, Mapping[str, str]]:
        """What the model is tried on, in words, and for what each drawn input was taken."""
        if self.case.given:
            return describe(self._alone, True), {}
        if self.case.photos and len(self.model.signature.inputs) == 1:
            return f"{len(self.case.photos)} photos", {}
        with suppress(CoreproofError):
            return describe(self._alone, False), taken_for(self.reference or self.model, self.model)
        return "", {}

    @cached_property
    def misclassified(self) -> int | None:
        """On how many of the photos the best score is not at the right class; None where that cannot be said."""
        if not (self.case.classes and self.case.photos and self.runs):
            return None
        from coreproof.doctor.source.accuracy import misclassified

        return misclassified(self.model, self.case.photos, self.case.classes, self.case.feeding)

    # against the source

    @property
    def reference(self) -> Model | None:
        """The source as an ONNX or Core ML model, as it was meant; None where there is no source."""
        return self._of_source.reference

    @cached_property
    def as_stored(self) -> AsStored:
        """The source with the weights that the model stores compressed. Raises InputError where there is no source."""
        if self.reference is None:
            raise InputError("there is no source", fix="give the model that this one should equal")
        return AsStored(self.reference, self.model)

    @property
    def reference_conversion(self) -> Model | None:
        """The source carried to the model's own format anew; None where it cannot be."""
        return self._of_source.conversion

    @property
    def feeds(self) -> Feeds:
        """What both sides are fed; chosen by the first verification where the formats leave a doubt."""
        if self._feeds is None:
            self._choose_feeds()
        assert self._feeds is not None
        return self._feeds

    @cached_property
    def verification(self) -> Verification | None:
        """The model against its source; None where there is no source, or the model does not run."""
        if self.reference is None or not self.runs:
            return None
        if self._feeds is None:
            return self._choose_feeds()
        return self._verify(self._feeds)

    def _verify(self, fed: Feeds) -> Verification:
        assert self.reference is not None
        return verify(self.reference, self.model, feeds=fed)

    def _choose_feeds(self) -> Verification | None:
        """Tries the plausible ways of feeding and keeps the one under which most values agree."""
        if self.reference is None:
            raise InputError("there is no source to feed", fix="give the model that this one should equal")
        best: tuple[int, Feeds, Verification] | None = None
        for fed in candidates(self.reference, self.model, self.case.feeding, self.case.photos[:2], self.case.given):
            if not self.runs:
                self._feeds = fed
                return None
            found = self._verify(fed)
            # under a wrong feeding values diverge from the first layer on, even in a model that is ill
            agreeing = sum(row.agrees for row in found.rows)
            if best is None or agreeing > best[0]:
                best = (agreeing, fed, found)
            # no other way of feeding can do better
            if found.agrees:
                break
        assert best is not None
        self._feeds = best[1]
        return best[2]

    def on_all_draws(self) -> Evidence | None:
        """The evidence on draws that show what these hide, where ``verify`` itself finds that the model diverges; None elsewhere.

        The draws that every repair is tried on are of the usual size, at which rounding may hide what is missing: a weight scaled
        down, of which the one that scaled it up was mended. What is called right is right on all that ``verify`` draws.
        """
        drawn = not self.case.photos and not self.case.given and self.case.feeding is None
        pictures = any(f.image is not None for f in self.model.signature.inputs)
        if not drawn or pictures or self.reference is None or self.verification is None or not self.verification.agrees:
            return None
        try:
            # it sees more, so that both verbs say the same
            self.verification = whole = verify(self.reference, self.model)
            if whole.agrees:
                return None
            for fed in all_drawn(self.reference, self.model):
                found = Evidence(self.case, self._of_source, fed)
                if found.verification is not None and not found.verification.agrees:
                    return found
        except CoreproofError:  # what is drawn for the one does not suit the other
            return None
        return None

    @property
    def faults(self) -> tuple[Row, ...]:
        """The values at which the model goes wrong by itself, first one first; empty where it agrees or nothing is known."""
        found = self.verification
        if found is None or found.agrees:
            return ()
        # where no stretch could be judged alone, the first value that diverges stands for the fault
        first = found.first_divergence
        return found.faults or (() if first is None else (first,))

    @property
    def source_graph(self) -> Graph | None:
        """The layers of the source (of its ONNX form, where it is a PyTorch model); None without a source."""
        return None if self.reference is None else self.reference.graph

    def source_weights(self, node: str) -> dict[str, Array]:
        """The weights of a node of the source (its ONNX form, where it is a PyTorch model)."""
        return self._read_source_weights(node)

    @cached_property
    def _read_source_weights(self) -> Callable[[str], dict[str, Array]]:
        assert self.reference is not None
        return weights_by_layer(self.reference)

    def stretch(self, row: Row) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The model's layers, and the source's nodes, between the values before this one that are compared; in order.

        Of a fault, the stretch that was judged alone; of any other row, all that lies behind values that agree.
        """
        found = self.verification
        assert found is not None
        assert self.source_graph is not None
        for known in found.stretches:
            if known.row == row:
                return known.layers, known.nodes
        # a stretch begins where both sides are known to agree
        good = [r for r in found.rows if r.agrees]
        layers = self.case.graph.between({r.candidate for r in good}, [row.candidate])
        return layers, self.source_graph.between({r.reference for r in good}, [row.reference])

    def reference_value(self, row: Row, edits: Sequence[Edit] = ()) -> Array:
        """What the source has at this row, with the weights that the model stores compressed, and still does after ``edits``."""
        key = self.as_stored.weights(edits), row.reference
        if key not in self._reference_values:
            with session(self.as_stored.source(edits)) as running:
                self._reference_values[key] = _tapped(running, self.feeds.reference[0], row.reference)
        return self._reference_values[key]

    def value(self, row: Row) -> Array:
        """What the model has at this row."""
        return self._own_value(row.candidate)

    def error_with(self, edits: Sequence[Edit], row: Row) -> float:
        """The relative rms error of the row's value after these edits; infinite where the edited model does not run.

        Only the row's stretch is run, fed with what the source has before it.
        """
        try:
            changed = edit(self.model, edits, check=False).model if edits else self.model
            made = run_subgraph(changed, self._frontier(row), [row.candidate])
        except CoreproofError:
            return math.inf
        return relative_error(self.reference_value(row, edits), np.asarray(made[row.candidate]))

    def _frontier(self, row: Row) -> dict[str, Array]:
        """What the row's stretch is fed: the source's values where they are compared, the model's own elsewhere."""
        layers, graph = self.stretch(row)[0], self.case.graph
        made = {output for node in layers for output in node.outputs}
        assert self.verification is not None
        rows = {r.candidate: r for r in self.verification.rows}
        fed = {}
        for name in dict.fromkeys(name for node in layers for name in graph.reads(node) if name not in node.parameters):
            if name in made or graph.is_constant(name):
                continue
            compared = rows.get(name)
            array = None if compared is None else self.reference_value(compared)
            if compared is None or array is None or array.size != math.prod(compared.shape):
                # not compared, or of another size: the value itself is at fault, and stays as the model has it
                fed[name] = self._own_value(name)
            else:
                fed[name] = array.reshape(compared.shape)
        return fed

    def _own_value(self, name: str) -> Array:
        if name not in self._values:
            inputs = self.feeds.candidate[0]
            with session(self.model) as running:
                self._values[name] = as_array(inputs[name]) if name in inputs else _tapped(running, inputs, name)
        return self._values[name]


def _as_step(model: Model) -> Model:
    """The model with what it remembers as inputs and outputs, so that it is drawn and compared; as it is where that fails."""
    try:
        return opened(model)
    except CoreproofError:  # a state that makes no sense: whoever runs the model says so
        return model


def relative_error(reference: Array, value: Array) -> float:
    """rms of the difference as a share of the reference's rms; infinite where the sizes differ or a value is not finite."""
    a, b = np.asarray(reference), np.asarray(value)
    # formats differ in lengths of 1; other lengths are other values, whatever their number
    if a.size != b.size or [d for d in a.shape if d != 1] != [d for d in b.shape if d != 1]:
        return math.inf
    if not all(array.dtype.kind in "biuf" for array in (a, b)):  # texts are the same, or they are not
        return 0.0 if np.array_equal(a, b) else math.inf
    # of zeros the error counts as it is
    return relative_rms(a, b, rms(a.astype(np.float64)) or 1.0)


def _tapped(running: Session, fed: Mapping[str, object], name: str) -> Array:
    outcome = running.run(fed, [name] if name in running.tappable else [])
    if name not in outcome:
        raise RunError(f"the value {name!r} cannot be brought out")
    return as_array(outcome[name])
