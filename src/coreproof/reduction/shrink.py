"""shrink: the smallest sub-model that still shows a fault, found by cutting ever more away and asking each time."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from coreproof.editing.submodels.open import submodel_builder
from coreproof.editing.submodels.submodel import Selection, StoredLayer, Submodel, SubmodelBuilder
from coreproof.errors import CoreproofError, InputError
from coreproof.model.base import Model
from coreproof.model.progress import Progress, silent
from coreproof.model.public import public
from coreproof.validation.problem import Problem
from coreproof.validation.validate import inspect

Test = Callable[[Model], bool]
_HALVINGS = 12
"""How often an input is made half as long at most: from 4096 down to 1."""


@public
def shrink(
    model: Model | str | Path,
    still_faulty: Test,
    report: Progress | None = None,
) -> Model:
    """The smallest sub-model for which ``still_faulty`` is true, by cutting at both ends and taking layers out between.

    Every candidate is as well formed as the model itself: what is not wrong with the whole is not wrong with a part. An
    error of coreproof's own (a candidate that does not run) counts as another fault, so as False; other exceptions end the
    search. Deterministic. Raises InputError when the model itself does not show the fault, EditError for formats without
    layers. The method is delta debugging (Zeller and Hildebrandt, 2002), with bisection first where layers are in order.

    Example:
        >>> small = cp.shrink("net.onnx", lambda model: any(node.operator == "Conv" for node in model.graph.nodes))
        >>> ", ".join(node.operator for node in small.graph.nodes)
        'Conv'

    """
    from coreproof.model.load import load

    return Search(submodel_builder(load(model)), still_faulty, report=report or silent).run()


@dataclass
class Search:
    """A search that can be watched, stopped and taken up again.

    ``feedable`` and ``observable`` limit where a model may begin and end (None: anywhere); ``starts`` are good guesses, tried
    first; ``keep`` is called with every better sub-model; ``tried`` holds what is known of submodels already.
    ``known_faulty``: the caller has seen that the whole model shows the fault. ``skip`` False: layers are cut off, but none is
    left out between others, which changes what those compute. ``resize`` False: inputs keep their shapes.
    ``problem``: what inspection has to find in a part as well, at the same layer.
    """

    builder: SubmodelBuilder
    still_faulty: Test
    report: Progress = silent
    feedable: Callable[[str], bool] | None = None
    observable: Callable[[str], bool] | None = None
    starts: Sequence[Submodel] = ()
    skip: bool = True
    resize: bool = True
    known_faulty: bool = False
    problem: Problem | None = None
    keep: Callable[[Model, Submodel], None] | None = None
    submodel: Submodel = field(default_factory=Submodel)
    tried: dict[str, bool] = field(default_factory=dict)
    tests: int = field(default=0, init=False)

    def run(self) -> Model:
        """The smallest sub-model found."""
        whole = inspect(self.builder.model).problems
        # a part must not be ill of what cutting did to it
        self._allowed = {(p.kind, p.layer) for p in whole if p.fatal}
        self._check_whole()
        for start in self.starts:
            if self._smaller(start):
                self._try(start)
        before = None
        while before != self.submodel:
            before = self.submodel
            self._fewer_outputs()
            self._from_the_end()
            self._from_the_start()
            self._fewer_outputs()
            self._drop_runs()
        if self.resize:
            self._smaller_inputs()
        return self.builder.build(self.submodel)

    @property
    def selection(self) -> Selection:
        """What the best submodel leaves."""
        return self.builder.select(self.submodel)

    # asking

    def _check_whole(self) -> None:
        if not self.known_faulty and not self._faulty(self.builder.model, Submodel()):
            raise InputError(
                "the model does not show the fault, so there is nothing to shrink",
                where=self.builder.model.name,
                expected="a test that holds for the whole model",
                fix="run the test on the whole model and look at what it says",
            )

    def _try(self, submodel: Submodel) -> bool:
        """Whether the fault is still there; the submodel is the best one then."""
        key = json.dumps(submodel.to_json())
        if key not in self.tried:
            try:
                self.tried[key] = self._faulty(self.builder.build(submodel), submodel)
            except CoreproofError:
                self.tried[key] = False
        if self.tried[key]:
            self.submodel = submodel
        left, whole = len(self.selection.layers), len(self.builder.layers)
        self.report("layers cut away", whole - left, whole)
        return self.tried[key]

    def _faulty(self, model: Model, submodel: Submodel) -> bool:
        if submodel != Submodel():
            inspection = inspect(model)
            if submodel.shapes and not _whole(inspection.shapes, self.builder.select(submodel)):
                return False
            found = {(p.kind, p.layer) for p in inspection.problems if p.fatal}
            wanted = {(self.problem.kind, self.problem.layer)} if self.problem is not None else set()
            if found - self._allowed or wanted - found:
                return False
        self.tests += 1
        if not self.still_faulty(model):
            return False
        if self.keep is not None and submodel != Submodel():
            self.keep(model, submodel)
        return True

    def _smaller(self, submodel: Submodel) -> bool:
        cut = self.builder.select(submodel)
        return bool(cut.layers) and cut.size < self.selection.size

    def _can_feed(self, names: Collection[str]) -> bool:
        return all(self.builder.can_feed(n) and (self.feedable is None or self.feedable(n)) for n in names)

    def _possible_outputs(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of the values that may be outputs and are made by a layer."""
        made = {name for layer in self.builder.layers for name in layer.makes}
        return tuple(n for n in names if n in made and (self.observable is None or self.observable(n)))

    # both ends

    def _fewer_outputs(self) -> None:
        """One output alone, else as many as can be spared taken away."""
        outputs = self.selection.outputs
        if len(outputs) < 2:
            return
        # the output with the fewest layers behind it leaves the smallest model, if it shows the fault
        alone = sorted(outputs, key=lambda o: len(self.builder.select(replace(self.submodel, outputs=(o,))).layers))
        if any(self._possible_outputs([o]) and self._try(replace(self.submodel, outputs=(o,))) for o in alone):
            return
        for output in outputs:
            rest = tuple(o for o in self.selection.outputs if o != output)
            if rest and len(self._possible_outputs(rest)) == len(rest):
                self._try(replace(self.submodel, outputs=rest))

    def _from_the_end(self) -> None:
        """Bisects for the shortest beginning that shows the fault; what leaves it become its outputs."""
        cut = self.selection
        submodels = []
        for count in range(1, len(cut.layers)):
            leaving = self.builder.leaving(cut.layers[:count], cut.layers[count:], cut.outputs)
            if outputs := self._possible_outputs(leaving):
                submodels.append(replace(self.submodel, outputs=outputs))
        # each trial that succeeds becomes the best submodel, the last one being the shortest
        bisect_left(submodels, True, key=self._try)

    def _from_the_start(self) -> None:
        """Bisects for the shortest end that shows the fault; what it reads become its inputs."""
        cut = self.selection
        submodels = []
        for count in range(1, len(cut.layers)):
            made = {name for layer in cut.layers[:count] for name in layer.makes}
            read = {name for layer in cut.layers[count:] for name in layer.reads} & made
            outputs = tuple(o for o in cut.outputs if o not in made)
            if not outputs or not self._can_feed(read):
                continue
            kept = self.submodel.outputs if outputs == cut.outputs else outputs
            submodels.append(replace(self.submodel, inputs=self.submodel.inputs | read, outputs=kept))
        bisect_left(submodels, True, key=lambda submodel: not self._try(submodel))

    # between

    def _drop_runs(self) -> None:
        """Takes runs of layers out, long ones first, down to single layers."""
        length = max(1, len(self.selection.layers) // 2)
        while True:
            changed = self._one_round(length)
            if length == 1 and not changed:
                return
            length = max(1, length // 2)

    def _one_round(self, length: int) -> bool:
        changed, place = False, 0
        while place < len(self.selection.layers):
            layers = self.selection.layers[place : place + length]
            # what stood behind a run that went is in its place now, so the place stays
            if any(self._smaller(submodel) and self._try(submodel) for submodel in self._without(layers)):
                changed = True
            else:
                place += length
        return changed

    def _without(self, layers: Sequence[StoredLayer]) -> Iterator[Submodel]:
        """Ways to do without these layers: feed what they make, skip them, end before them, or fall into two parts."""
        submodel, cut = self.submodel, self.selection
        rest = [layer for layer in cut.layers if layer not in layers]
        leaving = self.builder.leaving(layers, rest, cut.outputs)
        made = {name for layer in layers for name in layer.makes}
        entering = tuple(dict.fromkeys(n for layer in layers for n in layer.reads if n not in made))
        ending = [name for name in leaving if name in cut.outputs]
        if not ending and self._can_feed(leaving):
            yield replace(submodel, inputs=submodel.inputs | set(leaving))
        if self.skip and len(leaving) == 1:
            for source in entering:
                if self.builder.same_type(source, leaving[0]):
                    yield replace(submodel, bypassed=(*submodel.bypassed, (leaving[0], source)))
        others = tuple(o for o in cut.outputs if o not in leaving)
        if ending and others:
            yield replace(submodel, outputs=others)
        earlier = self._possible_outputs([n for n in entering if n not in submodel.inputs])
        if ending and earlier:
            yield replace(submodel, outputs=tuple(dict.fromkeys([*others, *earlier])))
        if earlier and not ending and self._can_feed(leaving):
            outputs = tuple(dict.fromkeys([*cut.outputs, *earlier]))
            yield replace(submodel, inputs=submodel.inputs | set(leaving), outputs=outputs)

    # inputs

    def _smaller_inputs(self) -> None:
        """A batch of 1, and half the length of the last two dimensions as often as it goes, for all inputs at once."""
        if any(f.image is not None and f.name in self.selection.inputs for f in self.builder.model.signature.inputs):
            return
        for _ in range(_HALVINGS):
            if any(name not in self.builder.shapes for name in self.selection.inputs):
                return
            now = {name: self.builder.shape_of(self.submodel, name) for name in self.selection.inputs}
            smaller = (tuple((name, change(shape)) for name, shape in now.items()) for change in (_one, _half))
            if not any(
                shapes != tuple(now.items()) and self._try(replace(self.submodel, shapes=shapes)) for shapes in smaller
            ):
                return


def _whole(shapes: Mapping[str, tuple[int, ...]], cut: Selection) -> bool:
    """Whether something is left of every value: a window that is larger than its picture leaves nothing, and crashes engines."""
    made = [shapes.get(name) for layer in cut.layers for name in layer.makes]
    return all(shape is not None and all(n > 0 for n in shape) for shape in made)


def _one(shape: tuple[int, ...]) -> tuple[int, ...]:
    # the first of three lengths may be channels, as in the [C, H, W] of the older networks
    return (1, *shape[1:]) if len(shape) > 3 else shape


def _half(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 3:
        return shape
    return (*shape[:-2], *(max(1, -(-n // 2)) for n in shape[-2:]))
