"""Apple's own interpreter of Core AI, in a child process: an oracle, and no fast engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from coreproof.conversion.coreai_to_onnx.program import carried_signature
from coreproof.errors import CoreproofError, RunError, UnsupportedModelError
from coreproof.model.coreai.arrays import at, mapped, of_pairs, pairs, written
from coreproof.model.coreai.child import Child
from coreproof.model.coreai.element_types import numpy_dtype
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.read import require_asset
from coreproof.model.coreai.tapped import inner_values, write_tapped
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.runtime.session import Session, State, Values, read_inputs
from coreproof.runtime.states import read_state, require_no_states

_SECONDS = 600.0
"""For one run, and for opening the model: a ResNet takes three seconds."""


class CoreAISession(Session):
    """Runs the stored model. A child that ended over one run is there anew for the next one.

    Inner values come out of a copy of the program that hands them out; the outputs are always those of the stored one.
    """

    engine = "Apple's Core AI interpreter"
    # 4,096 ones in float16 sum up to 2,048 there, in a product of matrices; in convolutions and reductions to 4,096
    sums_as_stored = True
    model: CoreAIModel

    def __init__(self, model: CoreAIModel) -> None:
        if model.files is None or not model.files.is_dir():
            raise UnsupportedModelError(
                "Apple's interpreter runs a model that lies on disk", where=model.where, fix="save it first"
            )
        self.model = model
        self.signature = carried_signature(model)
        self.stored = _Program(model, model.files)
        self._tapped: tuple[tuple[str, ...], _Program, Mapping[str, str]] | None = None
        self._place = TemporaryFolder()

    @cached_property
    def tappable(self) -> frozenset[str]:
        """The values outside of nested blocks; none where the copy that would hand them out cannot be written."""
        values = inner_values(self.model.function)
        try:
            write_tapped(self.model, values, Path(self._place.name) / "all.aimodel")
        except CoreproofError:
            return frozenset()
        return frozenset(values)

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        fed = {name: np.asarray(value) for name, value in read_inputs(self.signature, inputs, self.model.where).items()}
        if state is None:
            require_no_states(self.signature, self.model.where)
        held = read_state(self.signature, state or {}, self.model.where)
        # before the stored program is run, which changes the states
        inner = self._inner(fed, held, tuple(dict.fromkeys(taps))) if taps else {}
        # of an opened model the stored one is run: what comes in there is put into its states, and handed out again
        opened = self.model.opened_states
        plain = {name: value for name, value in fed.items() if name not in opened}
        outputs, after = self.stored.run(plain, held | {name: fed[name] for name in opened})
        outputs |= {out: after.pop(name) for name, out in opened.items() if name in after}
        if state is not None:
            state.update(after)
        missing = [f.name for f in self.signature.outputs if f.name not in outputs]
        if missing:
            raise self.stored.failed(f"no output {', '.join(missing)}")
        return {f.name: outputs[f.name] for f in self.signature.outputs} | inner

    def walk(self, inputs: Mapping[str, object], groups: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
        # all in one run: each takes seconds
        found = self.run(inputs, [name for group in groups for name in group])
        outputs = {f.name: found[f.name] for f in self.signature.outputs}
        for number, group in enumerate(groups, 1):
            values: dict[str, object] = {name: found[name] for name in group}
            yield values | outputs if number == len(groups) else values

    def _inner(
        self, fed: Mapping[str, np.ndarray], held: Mapping[str, np.ndarray], taps: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        """What the copy of the program hands out of its inner values."""
        unknown = [name for name in taps if name not in self.tappable]
        if unknown:
            raise RunError(
                "Apple's interpreter does not show these inner values",
                where=self.model.where,
                expected="values outside of nested blocks",
                found=", ".join(unknown),
                fix='run it with engine="auto"',
            )
        if self._tapped is None or self._tapped[0] != taps:
            self._close_tapped()
            path = Path(self._place.name) / "taps.aimodel"
            called = write_tapped(self.model, taps, path)
            self._tapped = taps, _Program(self.model, path), called
        _, program, called = self._tapped
        outputs, _ = program.run(fed, held)
        return {tap: outputs[name] for tap, name in called.items()}

    def _close_tapped(self) -> None:
        if self._tapped is not None:
            self._tapped[1].close()
        self._tapped = None

    def close(self) -> None:
        self.stored.close()
        self._close_tapped()
        self._place.cleanup()


class _Program:
    """The function of a model in a child process, from the files at ``path``, which are those of the model or of a copy."""

    def __init__(self, model: CoreAIModel, path: Path) -> None:
        self._model = model
        self._path = path
        self.child = Child(self.failed, require_asset(path))
        self._open = False

    def failed(self, found: str) -> RunError:
        """The error of what goes wrong there."""
        return RunError(
            "Apple's Core AI does not run the model",
            where=self._model.where,
            found=found,
            fix='the model also runs with engine="auto", lowered to ONNX',
        )

    def run(
        self, fed: Mapping[str, np.ndarray], held: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The outputs, and what the states hold afterwards, which were ``held`` before. Raises RunError."""
        folder = self.child.folder
        if not self._open or not self.child.alive:
            request = {"do": "open", "path": str(self._path.resolve()), "function": self._model.function.name}
            self.child.ask(request, _SECONDS)
            self._open = True
        places = written(folder / "fed", {name: self._declared(name, array) for name, array in {**fed, **held}.items()})
        answer = self.child.ask(
            {
                "do": "run",
                "folder": str(folder),
                "inputs": {name: places[name] for name in fed},
                "states": {name: places[name] for name in held},
            },
            _SECONDS,
        )
        found: dict[str, dict[str, np.ndarray]] = {}
        for kind in ("outputs", "states"):
            made = mapped(folder / kind)
            found[kind] = {name: _carried(at(made, place)) for name, place in answer[kind].table().items()}
        return found["outputs"], found["states"]

    def _declared(self, name: str, array: np.ndarray) -> np.ndarray:
        """An array in the dtype that the program itself declares."""
        held = self._model.function.types[self._model.function.inputs[name]]
        dtype = numpy_dtype(held.element)
        return of_pairs(array, dtype) if held.is_complex else array.astype(dtype, copy=False)

    def close(self) -> None:
        """Ends the child."""
        self.child.close()


def _carried(array: np.ndarray) -> np.ndarray:
    """An array of its own, in a dtype that NumPy computes with; complex numbers as pairs along a last axis."""
    if array.dtype.kind == "c":
        return np.array(pairs(array))
    return np.array(array if array.dtype.isbuiltin == 1 else array.astype(np.float32))
