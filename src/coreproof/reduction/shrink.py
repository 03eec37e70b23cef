"""shrink: the smallest sub-model that still shows a fault, found by cutting ever more away and asking each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from coreproof.errors import CoreproofError, InputError
from coreproof.model.base import Model
from coreproof.reduction.open import cutter
from coreproof.reduction.submodel import Cutter, Plan, Slice, Step
from coreproof.validation.problem import Problem
from coreproof.validation.validate import inspect

Test = Callable[[Model], bool]
Report = Callable[[str, int, int], None]
_HALVINGS = 12


def shrink(
    model: Model | str | Path,
    still_faulty: Test,
    report: Report | None = None,
) -> Model:
    """The smallest sub-model for which ``still_faulty`` is true, by cutting at both ends and taking layers out between.

    Every candidate is as well formed as the model itself: what is not wrong with the whole is not wrong with a part. An
    error of coreproof's own (a candidate that does not run) counts as another fault, so as False; other exceptions end the
    search. Deterministic. Raises InputError when the model itself does not show the fault, EditError for formats without
    layers. The method is delta debugging (Zeller and Hildebrandt, 2002), with bisection first where layers are in order.
    """
    from coreproof.model.load import load

    return Search(cutter(load(model)), still_faulty, report=report or _silent).run()


def _silent(what: str, done: int, total: int) -> None:
    """Reports to nobody."""


@dataclass
class Search:
    """A search that can be watched, stopped and taken up again.

    ``feedable`` and ``observable`` limit where a model may begin and end (None: anywhere); ``starts`` are good guesses, tried
    first; ``keep`` is called with every better sub-model; ``tried`` holds what is known of plans already.
    ``known_faulty``: the caller has seen that the whole model shows the fault. ``skip`` False: layers are cut off, but none is
    left out between others, which changes what those compute. ``resize`` False: inputs keep their shapes.
    ``problem``: what inspection has to find in a part as well, at the same layer.
    """

    cutter: Cutter
    still_faulty: Test
    report: Report = _silent
    feedable: Callable[[str], bool] | None = None
    observable: Callable[[str], bool] | None = None
    starts: Sequence[Plan] = ()
    skip: bool = True
    resize: bool = True
    known_faulty: bool = False
    problem: Problem | None = None
    keep: Callable[[Model, Plan], None] | None = None
    plan: Plan = field(default_factory=Plan)
    tried: dict[str, bool] = field(default_factory=dict)
    tests: int = field(default=0, init=False)

    def run(self) -> Model:
        """The smallest sub-model found."""
        whole = inspect(self.cutter.model).problems
        self._allowed = {(p.kind, p.layer) for p in whole if p.loud}
        self._check_whole()
        for start in self.starts:
            if self._smaller(start):
                self._try(start)
        before = None
        while before != self.plan:
            before = self.plan
            self._fewer_outputs()
            self._from_the_end()
            self._from_the_start()
            self._fewer_outputs()
            self._between()
        if self.resize:
            self._smaller_inputs()
        return self.cutter.build(self.plan)

    @property
    def slice(self) -> Slice:
        """What the best plan leaves."""
        return self.cutter.slice(self.plan)

    # asking

    def _check_whole(self) -> None:
        if not self.known_faulty and not self._faulty(self.cutter.model, Plan()):
            raise InputError(
                "the model does not show the fault, so there is nothing to shrink",
                where=self.cutter.model.name,
                expected="a test that holds for the whole model",
                fix="run the test on the whole model and look at what it says",
            )

    def _try(self, plan: Plan) -> bool:
        """Whether the fault is still there; the plan is the best one then."""
        key = json.dumps(plan.to_json())
        if key not in self.tried:
            try:
                self.tried[key] = self._faulty(self.cutter.build(plan), plan)
            except CoreproofError:
                self.tried[key] = False
        if self.tried[key]:
            self.plan = plan
        left, whole = len(self.slice.steps), len(self.cutter.steps)
        self.report("layers cut away", whole - left, whole)
        return self.tried[key]

    def _faulty(self, model: Model, plan: Plan) -> bool:
        if plan != Plan():
            inspection = inspect(model)
            if plan.shapes and not _whole(inspection.shapes, self.cutter.slice(plan)):
                return False
            found = {(p.kind, p.layer) for p in inspection.problems if p.loud}
            wanted = {(self.problem.kind, self.problem.layer)} if self.problem is not None else set()
            if found - self._allowed or wanted - found:
                return False
        self.tests += 1
        if not self.still_faulty(model):
            return False
        if self.keep is not None and plan != Plan():
            self.keep(model, plan)
        return True

    def _smaller(self, plan: Plan) -> bool:
        cut = self.cutter.slice(plan)
        return bool(cut.steps) and cut.size < self.slice.size

    def _can_feed(self, names: Collection[str]) -> bool:
        return all(self.cutter.can_feed(n) and (self.feedable is None or self.feedable(n)) for n in names)

    def _observed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of the values that may be outputs and are made by a layer."""
        made = {name for step in self.cutter.steps for name in step.makes}
        return tuple(n for n in names if n in made and (self.observable is None or self.observable(n)))

    # both ends

    def _fewer_outputs(self) -> None:
        """One output alone, else as many as can be spared taken away."""
        outputs = self.slice.outputs
        if len(outputs) < 2:
            return
        alone = sorted(outputs, key=lambda o: len(self.cutter.slice(replace(self.plan, outputs=(o,))).steps))
        if any(self._observed([o]) and self._try(replace(self.plan, outputs=(o,))) for o in alone):
            return
        for output in outputs:
            rest = tuple(o for o in self.slice.outputs if o != output)
            if rest and len(self._observed(rest)) == len(rest):
                self._try(replace(self.plan, outputs=rest))

    def _from_the_end(self) -> None:
        """Bisects for the shortest beginning that shows the fault; what leaves it become its outputs."""
        cut = self.slice
        plans = []
        for count in range(1, len(cut.steps)):
            leaving = self.cutter.leaving(cut.steps[:count], cut.steps[count:], cut.outputs)
            if outputs := self._observed(leaving):
                plans.append(replace(self.plan, outputs=outputs))
        low, high = 0, len(plans)
        while low < high:
            middle = (low + high) // 2
            if self._try(plans[middle]):
                high = middle
            else:
                low = middle + 1

    def _from_the_start(self) -> None:
        """Bisects for the shortest end that shows the fault; what it reads become its inputs."""
        cut = self.slice
        plans = []
        for count in range(1, len(cut.steps)):
            made = {name for step in cut.steps[:count] for name in step.makes}
            read = {name for step in cut.steps[count:] for name in step.reads} & made
            outputs = tuple(o for o in cut.outputs if o not in made)
            if not outputs or not self._can_feed(read):
                continue
            kept = self.plan.outputs if outputs == cut.outputs else outputs
            plans.append(replace(self.plan, inputs=self.plan.inputs | read, outputs=kept))
        low, high = 0, len(plans)
        while low < high:
            middle = (low + high) // 2
            if self._try(plans[middle]):
                low = middle + 1
            else:
                high = middle

    # between

    def _between(self) -> None:
        """Takes runs of layers out, long ones first, down to single layers."""
        length = max(1, len(self.slice.steps) // 2)
        while True:
            changed = self._one_round(length)
            if length == 1 and not changed:
                return
            length = max(1, length // 2)

    def _one_round(self, length: int) -> bool:
        changed, place = False, 0
        while place < len(self.slice.steps):
            steps = self.slice.steps[place : place + length]
            if any(self._smaller(plan) and self._try(plan) for plan in self._without(steps)):
                changed = True
            else:
                place += length
        return changed

    def _without(self, steps: Sequence[Step]) -> Iterator[Plan]:
        """Ways to do without these layers: feed what they make, skip them, end before them, or fall into two parts."""
        plan, cut = self.plan, self.slice
        rest = [step for step in cut.steps if step not in steps]
        leaving = self.cutter.leaving(steps, rest, cut.outputs)
        made = {name for step in steps for name in step.makes}
        entering = tuple(dict.fromkeys(n for step in steps for n in step.reads if n not in made))
        ending = [name for name in leaving if name in cut.outputs]
        if not ending and self._can_feed(leaving):
            yield replace(plan, inputs=plan.inputs | set(leaving))
        if self.skip and len(leaving) == 1:
            for source in entering:
                if self.cutter.same_type(source, leaving[0]):
                    yield replace(plan, bypassed=(*plan.bypassed, (leaving[0], source)))
        others = tuple(o for o in cut.outputs if o not in leaving)
        if ending and others:
            yield replace(plan, outputs=others)
        earlier = self._observed([n for n in entering if n not in plan.inputs])
        if ending and earlier:
            yield replace(plan, outputs=tuple(dict.fromkeys([*others, *earlier])))
        if earlier and not ending and self._can_feed(leaving):
            outputs = tuple(dict.fromkeys([*cut.outputs, *earlier]))
            yield replace(plan, inputs=plan.inputs | set(leaving), outputs=outputs)

    # inputs

    def _smaller_inputs(self) -> None:
        """A batch of 1, and half the length of the last two dimensions as often as it goes, for all inputs at once."""
        if any(f.image is not None and f.name in self.slice.inputs for f in self.cutter.model.signature.inputs):
            return
        for _ in range(_HALVINGS):
            shapes = {n: self.cutter.shape_of(self.plan, n) for n in self.slice.inputs if n in self.cutter.shapes}
            if len(shapes) < len(self.slice.inputs) or not any(
                self._resized(change, shapes) for change in (_one, _half)
            ):
                return

    def _resized(
        self, change: Callable[[tuple[int, ...]], tuple[int, ...]], shapes: dict[str, tuple[int, ...]]
    ) -> bool:
        smaller = {name: change(shape) for name, shape in shapes.items()}
        if smaller == shapes:
            return False
        return self._try(replace(self.plan, shapes=tuple(smaller.items())))


def _whole(shapes: Mapping[str, tuple[int, ...]], cut: Slice) -> bool:
    """Whether something is left of every value: a window that is larger than its picture leaves nothing, and crashes engines."""
    made = [shapes.get(name) for step in cut.steps for name in step.makes]
    return all(shape is not None and all(n > 0 for n in shape) for shape in made)


def _one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *shape[1:]) if len(shape) > 3 else shape


def _half(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 3:
        return shape
    return (*shape[:-2], *(max(1, -(-n // 2)) for n in shape[-2:]))
