"""Trials of MIL operators: the same arguments go into a program of one operation and to the operator's definition in NumPy.

A family's test file holds for each operator its definition, as Apple's documentation of MIL words it, and rows of arguments::

    family = Family("gathering")

    @family.defines("gather", "x indices", rows=[{"x": x, "indices": [0, -1]}, {"x": x, "indices": [2], "axis": 1}])
    def gather(x, indices, axis=0):
        return np.take(x, indices, axis)

The arguments that are named in the second place are inputs of the model, all others constants. The rows are tried in float32;
with every operand but the first a constant; and, where they hold floats, in float16: the definition is given the rounded inputs,
and the program answers what it gives in exact arithmetic, rounded.

In float16 each trial is fed extremes, too: what the program stores is bit for bit the rounding of what the same engine computes
in float32 from the same inputs, and where the definition is exact, what that gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from coreproof.conversion.operators import MIL
from coreproof.conversion.registry import Handler
from coreproof.model.coreml.model import CoreMLModel
from coreproof.runtime.open import session
from coreproof.runtime.session import Session
from tests.build import program

Array = np.ndarray
EXTREMES = np.array(
    [
        0x0001,
        0x8001,
        0x03FF,
        0x0400,
        0x8400,
        0x7BFF,
        0xFBFF,
        0x7C00,
        0xFC00,
        0x7E00,
        0x8000,
        0x0000,
        0x3C00,
        0x3555,
        0x6400,
    ],
    np.uint16,
).view(np.float16)
"""The ends of float16: the subnormal ones and their neighbours, 65504, infinity, NaN, both zeros; and 1, 1/3 and 1024."""
NUMBERS = EXTREMES[~np.isnan(EXTREMES)]
"""Those of which the order of two is defined."""
Definition = Callable[..., Any]
AnyDefinition = TypeVar("AnyDefinition", bound=Definition)
Test = TypeVar("Test", bound=Callable[..., None])


@dataclass(frozen=True)
class Row:
    """One operation: its arguments, and which of them the model is fed."""

    arguments: Mapping[str, Any]
    fed: tuple[str, ...]

    def inputs(self) -> list[np.ndarray]:
        """What the model is fed for it."""
        return [np.asarray(array) for name in self.fed for array in _several(self.arguments[name])]

    def operands(self, mb: Any, values: Iterator[Any]) -> dict[str, Any]:
        """Its arguments with the model's inputs in the places of what is fed."""
        operands = dict(self.arguments)
        for name in self.fed:
            given = self.arguments[name]
            carried = [_carried(mb, next(values), np.asarray(array)) for array in _several(given)]
            operands[name] = carried if isinstance(given, list | tuple) else carried[0]
        return operands


@dataclass(frozen=True)
class Trial:
    """One program of several operations of a kind, and what each of them has to answer."""

    name: str
    operator: str
    definition: Definition
    rows: Sequence[Row]
    target: str
    within: float
    half: bool
    tame: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def hold(self, folder: Path) -> None:
        """Asserts that the program's answers are the definition's: values, shapes, and as many of them."""
        model, declared = self.built(folder)
        with session(model) as running:
            self._hold_definition(_answers(running, self.rows), self.rows, declared)
            if self.half:
                with session(model, precision="fp32") as wide:
                    self._hold_rounding(running, wide)
                if not self.within:
                    with_extremes = self._spiced(NUMBERS)
                    self._hold_definition(_answers(running, with_extremes), with_extremes, declared)

    def hold_elsewhere(self, folder: Path, opened: Callable[[CoreMLModel], Any], *, between: str | None = None) -> None:
        """Asserts the same of what was made of the program, and is run by what ``opened`` gives.

        ``between`` is the operand that it adds to a result which was rounded to half width before.
        """
        model, declared = self.built(folder)
        with opened(model) as running:
            self._hold_definition(_answers(running, self.rows), self.rows, declared, between if self.half else None)

    def built(self, folder: Path) -> tuple[CoreMLModel, list[list[tuple[Any, ...]]]]:
        """The program, and the shapes that each of its operations declares."""
        declared: list[list[tuple[Any, ...]]] = []

        def build(mb: Any, *values: Any) -> Any:
            left, outputs = iter(values), []
            for row in self.rows:
                results = getattr(mb, self.operator)(**row.operands(mb, left))
                results = results if isinstance(results, list | tuple) else [results]
                declared.append([tuple(r.shape) for r in results])
                outputs.extend(_handed_out(mb, r) for r in results)
            return tuple(outputs)

        fed = [array for row in self.rows for array in row.inputs()]
        inputs = [(array.shape or (1,), _feature_dtype(array)) for array in fed]
        return program(folder, build, inputs, target=self.target, half=self.half), declared

    def _hold_definition(
        self,
        found: Sequence[Array],
        rows: Sequence[Row],
        declared: Sequence[Sequence[tuple[Any, ...]]],
        between: str | None = None,
    ) -> None:
        results = iter(found)
        for row, shapes in zip(rows, declared, strict=True):
            with np.errstate(all="ignore"):
                expected = self.definition(**{k: _exact(v) for k, v in row.arguments.items()})
            expected = expected if isinstance(expected, tuple) else (expected,)
            assert len(expected) == len(shapes)
            for wanted, shape in zip(map(np.asarray, expected), shapes, strict=True):
                said = f"{self.operator}({row.arguments})"
                assert len(shape) == wanted.ndim, said
                assert all(not isinstance(n, int) or n == m for n, m in zip(shape, wanted.shape, strict=True)), said
                result = next(results)
                assert result.shape == (wanted.shape or (1,)), said
                within = self.within
                if between is not None and row.arguments.get(between) is not None:
                    # what was rounded is as large as the result and what was added, and half a step of that off
                    within += 2.0**-11 * float(np.max(np.abs(wanted)) + np.max(np.abs(row.arguments[between])))
                _agree(result.reshape(wanted.shape), wanted, within, said)
        assert next(results, None) is None

    def _hold_rounding(self, stored: Session, wide: Session) -> None:
        """What a float16 program answers is what its float32 arithmetic gives, rounded: the same bits, NaN aside."""
        for rows in (self.rows, self._spiced(EXTREMES), self._spiced(EXTREMES, share=1)):
            for found, exact in zip(_answers(stored, rows), _answers(wide, rows), strict=True):
                with np.errstate(over="ignore"):
                    rounded = exact.astype(found.dtype)
                same = (found.view(f"u{found.itemsize}") == rounded.view(f"u{found.itemsize}")) | (
                    np.isnan(found) & np.isnan(rounded)
                )
                assert same.all(), f"{self.operator}: {found[~same][:4]}, not {exact[~same][:4]} rounded, of {rows}"

    def _spiced(self, extremes: Array, share: float = 0.3) -> Sequence[Row]:
        """The rows with extremes in the places of some of what is fed, but not of what is ``tame``."""
        rng = np.random.default_rng(len(self.name))

        def spice(array: Array) -> Array:
            return np.where(rng.random(np.shape(array)) < share, rng.choice(extremes, np.shape(array)), array)

        return [
            Row(
                {k: _changed(spice, v) if k in row.fed and k not in self.tame else v for k, v in row.arguments.items()},
                row.fed,
            )
            for row in self.rows
        ]


@dataclass
class Family:
    """The trials of one family of operators; ``name`` is the file of its handlers."""

    name: str
    trials: list[Trial] = field(default_factory=list)
    covered: dict[str, set[int]] = field(default_factory=dict)
    """The iOS versions of the programs in which an operator was tried."""

    def each(self, test: Test) -> Test:
        """Runs a test once for each trial that was defined above it; a sweep, which keeps two of each operator."""
        return pytest.mark.sweep(2, each="trial.operator")(pytest.mark.parametrize("trial", self.trials, ids=str)(test))

    def defines(
        self,
        operator: str,
        fed: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        within: float = 0.0,
        target: str = "iOS17",
        half: bool = True,
        tame: str = "",
    ) -> Callable[[AnyDefinition], AnyDefinition]:
        """Adds trials. ``within`` is how far float32 may be off the exact result, relative to it or to 1; 0 is not at all.

        ``half`` says whether float16 is tried as well, and ``tame`` which operands it takes no extremes for.
        """
        inputs = tuple(fed.split())
        given = [Row(row, tuple(name for name in inputs if name in row)) for row in rows]
        halves = [Row(_narrowed(row.arguments), row.fed) for row in given if any(map(_is_float, row.inputs()))]
        known = [Row(row.arguments, row.fed[:1]) for row in given if len(row.fed) > 1]
        self.exercises(operator, target=target)(None)

        def add(definition: AnyDefinition) -> AnyDefinition:
            for how, there in (("fp32", given), ("constants", known), ("fp16", halves if half else [])):
                if there:
                    name = f"{operator}-{target}-{how}"
                    trial = Trial(
                        name, operator, definition, there, target, within, how == "fp16", frozenset(tame.split())
                    )
                    self.trials.append(trial)
            return definition

        return add

    def exercises(self, *operators: str, target: str = "iOS17") -> Callable[[Any], Any]:
        """Says that a test, which is written out, asserts the values of these operators in a program of that version."""

        def register(test: Any) -> Any:
            for operator in operators:
                self.covered.setdefault(operator, set()).add(int(target.removeprefix("iOS")))
            return test

        return register

    def handlers(self) -> set[tuple[str, Handler]]:
        """The operators that are tried here, each with the handlers that hold in the programs of its trials."""
        return {
            (operator, handler)
            for operator, versions in self.covered.items()
            for version in versions
            if (handler := MIL.find(operator, version)) is not None
        }


def _answers(running: Session, rows: Sequence[Row]) -> list[Array]:
    """What a program of these rows answers, in the order of its outputs."""
    arrays = [array for row in rows for array in row.inputs()]
    feeds = {
        feature.name: array.reshape(array.shape or (1,)).astype(_feature_dtype(array))
        for feature, array in zip(running.signature.inputs, arrays, strict=True)
    }
    answer = running.run(feeds)
    return [answer[feature.name] for feature in running.signature.outputs]


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def _changed(change: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with each of its arrays changed."""
    if isinstance(value, Mapping):
        return {k: _changed(change, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(change, v) for v in value]
    return change(value) if isinstance(value, np.ndarray | np.generic) and _is_float(np.asarray(value)) else value


def _narrowed(value: Any) -> Any:
    """With arrays of floats in float16; a plain number stays, as parameters that are float32 in every program do."""
    with np.errstate(over="ignore"):
        return _changed(lambda array: array.astype(np.float16), value)


def _exact(value: Any) -> Any:
    """With arrays of floats in float64."""
    return _changed(lambda array: array.astype(np.float64), value)


def _feature_dtype(array: np.ndarray) -> str:
    """Core ML's models take floats and int32; truth values and narrower integers are made of these."""
    return str(array.dtype) if _is_float(array) else "int32"


def _carried(mb: Any, value: Any, array: np.ndarray) -> Any:
    """A model's input as the operand that it stands for: no feature is a scalar, a truth value or a narrow integer."""
    if array.ndim == 0:
        value = mb.squeeze(x=value, axes=[0])
    same = _is_float(array) or array.dtype == np.int32
    return value if same else mb.cast(x=value, dtype=str(array.dtype))


def _handed_out(mb: Any, result: Any) -> Any:
    """A result as a feature can hold it."""
    from coremltools.converters.mil.mil import types

    if result.dtype not in (types.fp16, types.fp32, types.int32):
        result = mb.cast(x=result, dtype="int32")
    return result if result.rank else mb.expand_dims(x=result, axes=[0])


def _agree(found: np.ndarray, exact: np.ndarray, within: float, said: str) -> None:
    if not _is_float(found):
        np.testing.assert_array_equal(found, exact, said)
        return
    with np.errstate(over="ignore"):
        rounded = exact.astype(found.dtype)
    if not within:
        np.testing.assert_array_equal(found, rounded, said)
        return
    step = (
        2.0**-10 if found.dtype == np.float16 else within
    )  # neighbours in float16 are at most 2^-10 of themselves apart
    np.testing.assert_allclose(
        found.astype(np.float64), rounded.astype(np.float64), rtol=step, atol=within, err_msg=said
    )
