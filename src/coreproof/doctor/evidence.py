"""Patient: what the rules are given: a model, what it should equal, and everything that was found out about both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.doctor.source.feeds import Feeds, candidates
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
from coreproof.feeding.drawn import roles_for, taken_for
from coreproof.feeding.inputs import Sample, describe, hand_over, random_feeds
from coreproof.feeding.roles.role import Role
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.model.graph import Graph, Node
from coreproof.runtime.open import session
from coreproof.validation.problem import Problem
from coreproof.validation.validate import Inspection, inspect
from coreproof.verification.verify import Row, Verification, as_array, verify

_OUR_LIMITS = (UnsupportedOperatorsError, UnsupportedModelError, TooLargeError, MissingDependencyError, InputError)
"""Errors that say what coreproof cannot run, hold or feed, and nothing against the model."""


class Patient:
    """A model under examination. Everything is found out when it is first asked for.

    ``source`` is the model that it should equal, ``labels`` the right class labels, ``photos`` pictures to try it on,
    ``classes`` the right class index of each photo, ``feeding`` how the source is fed, ``given`` arrays by input name to feed
    both; all may be unknown (None, empty).
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
        feeds: Feeds | None = None,
        given: Sequence[Sample] = (),
    ) -> None:
        self.model = model
        self.source = source
        self.labels = tuple(labels) if labels is not None else None
        self.photos = tuple(photos)
        self.classes = tuple(classes)
        self.feeding = feeding or getattr(source, "feeding", None)
        self._feeds = feeds
        self.given = tuple(given)
        self._values: dict[str, npt.NDArray[Any]] = {}
        self._reference: dict[str, npt.NDArray[Any]] = {}

    def after(self, edits: Sequence[Edit]) -> Patient:
        """The patient after an operation, as a new patient; EditError where the edits cannot be carried out."""
        changed = edit(self.model, edits, check=False).model
        same_inputs = changed.signature.inputs == self.model.signature.inputs
        operated = Patient(
            changed,
            self.source,
            labels=self.labels,
            photos=self.photos,
            classes=self.classes,
            feeding=self.feeding,
            feeds=self._feeds if same_inputs else None,
            given=self.given,
        )
        # what was found out about the source holds for it still
        for known in ("reference", "twin"):
            if known in self.__dict__:
                operated.__dict__[known] = self.__dict__[known]
        if operated._feeds is not None:
            operated._reference = self._reference
        return operated

    # the model alone

    @property
    def graph(self) -> Graph:
        return self.model.graph

    @cached_property
    def inspection(self) -> Inspection:
        return inspect(self.model)

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
        first = next((p for p in self.problems if p.loud), None)
        if first is not None:
            return RunError("the model cannot run", where=self.model.name, expected=first.expected, found=first.found)
        try:
            with session(self.model) as running:
                running.run(self.feeds.model[0] if self._feeds is not None else self._alone[0])
        except CoreproofError as error:
            return error
        return None

    @property
    def runs(self) -> bool:
        return self.failure is None

    @property
    def beyond_us(self) -> bool:
        """Whether the model may be sound, and it is coreproof or its engine that cannot run this kind of model or operator."""
        error = self.failure
        return isinstance(error, _OUR_LIMITS) or (error is not None and "NOT_IMPLEMENTED" in str(error.found))

    def weights(self, layer: str) -> dict[str, npt.NDArray[Any]]:
        """The weights of a layer, real values by name."""
        from coreproof.model.layer_weights import layer_weights

        return layer_weights(self.model, layer)

    @cached_property
    def lost(self) -> Mapping[str, float]:
        """The outputs that float16, as the model stores it, ruins, with their errors: seen without a source.

        The model's own inputs are asked for: photos where there are any, else random values.
        """
        from coreproof.precision.ruined_outputs import lost_outputs, stores_halves

        if not (stores_halves(self.model) and self.runs):
            return {}
        return lost_outputs(self.model, self.own_feeds)

    @cached_property
    def roles(self) -> Mapping[str, Role]:
        """What the model's inputs are for, as its operators tell."""
        return roles_for(self.model, self.model)

    @property
    def own_feeds(self) -> Sequence[Mapping[str, Any]]:
        """What the model is fed where there may be no source to share it with."""
        from coreproof.feeding.user_inputs import photo_feeds

        if self._feeds is not None or self.reference is not None:
            return self.feeds.model
        takes_pictures = any(f.image is not None for f in self.model.signature.inputs)
        if self.photos and (takes_pictures or self.feeding is not None):
            return photo_feeds(self.model, self.model, self.photos[:2], (self.feeding, self.feeding)).candidate
        return self._alone

    @property
    def _alone(self) -> Sequence[Mapping[str, Any]]:
        """What is given for the model, else drawn for it."""
        if self.given:
            known = self.source or self.model
            return [hand_over(sample, known.signature, self.model.signature)[1] for sample in self.given]
        return [random_feeds(self.model, self.model)[1]]

    @property
    def fed(self) -> tuple[str, Mapping[str, str]]:
        """What the model is tried on, in words, and for what each drawn input was taken."""
        if self.given:
            return describe(self._alone, True), {}
        if self.photos and len(self.model.signature.inputs) == 1:
            return f"{len(self.photos)} photos", {}
        with suppress(CoreproofError):
            return describe(self._alone, False), taken_for(self.reference or self.model, self.model)
        return "", {}

    @property
    def right_labels(self) -> tuple[str | int, ...] | None:
        """The class labels as they should be: given by the user, else the source's own."""
        if self.labels is not None:
            return self.labels
        return None if self.source is None else self.source.signature.labels

    @cached_property
    def misclassified(self) -> int | None:
        """On how many of the photos the best score is not at the right class; None where that cannot be said."""
        if not (self.classes and self.photos and self.runs):
            return None
        from coreproof.doctor.source.accuracy import misclassified

        return misclassified(self.model, self.photos, self.classes, self.feeding)

    # against the source

    @cached_property
    def reference(self) -> Model | None:
        """The source as an ONNX or Core ML model, as it was meant: one sample at a time, on the exporter's own grid."""
        if self.source is not None and self.source.format == "torch":
            from coreproof.conversion.convert import convert

            return convert(self.source, "onnx")
        return None if self.source is None else with_meant_grid(one_at_a_time(self.source, self.model))

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
        return verify(self.reference, self.model, feeds=(list(fed.source), list(fed.model)))

    def _choose_feeds(self) -> Verification | None:
        """Tries the plausible ways of feeding and keeps the one under which most values agree."""
        if self.reference is None:
            raise InputError("there is no source to feed", fix="give the model that this one should equal")
        best: tuple[int, Feeds, Verification] | None = None
        for fed in candidates(self.reference, self.model, self.feeding, self.photos[:2], self.given):
            if not self.runs:
                self._feeds = fed
                return None
            found = self._verify(fed)
            agreeing = sum(row.agrees for row in found.rows)
            if best is None or agreeing > best[0]:
                best = (agreeing, fed, found)
            if found.agrees:
                break
        assert best is not None
        self._feeds = best[1]
        return best[2]

    @property
    def faults(self) -> tuple[Row, ...]:
        """The values at which the model goes wrong by itself, first one first; empty where it agrees or nothing is known."""
        found = self.verification
        if found is None or found.agrees:
            return ()
        first = found.first_divergence
        return found.faults or (() if first is None else (first,))

    @cached_property
    def twin(self) -> Model | None:
        """The source carried to the model's own format anew, where it can be."""
        from coreproof.doctor.source.reference_conversion import twin_of

        return twin_of(self.reference, self.model)

    @property
    def source_graph(self) -> Graph | None:
        return None if self.reference is None else self.reference.graph

    def source_weights(self, node: str) -> dict[str, npt.NDArray[Any]]:
        """The weights of a node of the source (its ONNX form, where it is a PyTorch model)."""
        from coreproof.model.layer_weights import layer_weights

        assert self.reference is not None
        return layer_weights(self.reference, node)

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
        good = [r for r in found.rows if r.agrees]
        mine = self.graph.between({r.candidate for r in good}, [row.candidate])
        theirs = self.source_graph.between({r.reference for r in good}, [row.reference])
        return mine, theirs

    def reference_value(self, row: Row) -> npt.NDArray[Any]:
        """What the source has at this row."""
        if row.reference not in self._reference:
            assert self.reference is not None
            with session(self.reference) as running:
                self._reference[row.reference] = _tapped(running, self.feeds.source[0], row.reference)
        return self._reference[row.reference]

    def value(self, row: Row) -> npt.NDArray[Any]:
        """What the model has at this row."""
        return self._own_value(row.candidate)

    def error_with(self, edits: Sequence[Edit], row: Row) -> float:
        """The relative rms error of the row's value after these edits; infinite where the edited model does not run.

        Only the row's stretch is run, fed with what the source has before it.
        """
        try:
            changed = edit(self.model, edits, check=False).model if edits else self.model
            value = self._value_of(changed, row)
        except CoreproofError:
            return math.inf
        return relative_error(self.reference_value(row), value)

    def _value_of(self, changed: Model, row: Row) -> npt.NDArray[Any]:
        from coreproof.runtime.subgraph import part

        fed = self._frontier(row)
        return np.asarray(part(changed, fed, [row.candidate])[row.candidate])

    def _frontier(self, row: Row) -> dict[str, npt.NDArray[Any]]:
        """What the row's stretch is fed: the source's values where they are compared, the model's own elsewhere."""
        layers = self.stretch(row)[0]
        made = {output for node in layers for output in node.outputs}
        read = [
            name
            for node in layers
            for name in self.graph.reads(node)
            if name not in made and not _is_constant(self.graph, name) and name not in node.parameters
        ]
        assert self.verification is not None
        rows = {r.candidate: r for r in self.verification.rows}
        fed = {}
        for name in dict.fromkeys(read):
            right = rows.get(name)
            if right is None:
                fed[name] = self._own_value(name)
            else:
                array = self.reference_value(right)
                fed[name] = (
                    array.reshape(right.shape) if array.size == math.prod(right.shape) else self._own_value(name)
                )
        return fed

    def _own_value(self, name: str) -> npt.NDArray[Any]:
        if name not in self._values:
            inputs = self.feeds.model[0]
            with session(self.model) as running:
                self._values[name] = as_array(inputs[name]) if name in inputs else _tapped(running, inputs, name)
        return self._values[name]


def relative_error(reference: npt.NDArray[Any], value: npt.NDArray[Any]) -> float:
    """rms of the difference as a share of the reference's rms; infinite where the sizes differ or a value is not finite."""
    a, b = np.asarray(reference), np.asarray(value)
    if a.size != b.size or [d for d in a.shape if d != 1] != [d for d in b.shape if d != 1]:
        return math.inf
    x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.inf
    scale = math.sqrt(float(np.mean(x * x))) or 1.0
    error = math.sqrt(float(np.mean((x - y) ** 2))) / scale
    return error if math.isfinite(error) else math.inf


def _is_constant(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    return value is not None and value.constant


def _tapped(running: Any, fed: Mapping[str, Any], name: str) -> npt.NDArray[Any]:
    outcome = running.run(fed, [name] if name in running.tappable else [])
    if name not in outcome:
        raise RunError(f"the value {name!r} cannot be brought out")
    return as_array(outcome[name])
