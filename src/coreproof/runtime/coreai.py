"""Apple's own interpreter of Core AI, in a child process: an oracle, and no fast engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coreproof.conversion.coreai_to_onnx.program import carried_signature
from coreproof.errors import RunError, UnsupportedModelError
from coreproof.model.coreai.arrays import at, mapped, written
from coreproof.model.coreai.child import Child
from coreproof.model.coreai.element_types import numpy_dtype
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.read import require_asset
from coreproof.runtime.session import Session, State, Values, read_inputs
from coreproof.runtime.states import read_state, require_no_states

_SECONDS = 600.0
"""For one run, and for opening the model: a ResNet takes three seconds."""


class CoreAISession(Session):
    """Runs the stored model. A child that ended over one run is there anew for the next one."""

    engine = "Apple's Core AI interpreter"
    model: CoreAIModel

    def __init__(self, model: CoreAIModel) -> None:
        if model.files is None or not model.files.is_dir():
            raise UnsupportedModelError(
                "Apple's interpreter runs a model that lies on disk", where=model.where, fix="save it first"
            )
        self.model = model
        self.signature = carried_signature(model)
        self._path = model.files
        self._child = Child(self._failed, require_asset(model.files))
        self._open = False

    def _failed(self, found: str) -> RunError:
        return RunError(
            "Apple's Core AI does not run the model",
            where=self.model.where,
            found=found,
            fix='the model also runs with engine="auto", lowered to ONNX',
        )

    @property
    def tappable(self) -> frozenset[str]:
        """Nothing: the interpreter hands out the outputs alone."""
        return frozenset()

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        if taps:
            raise RunError(
                "Apple's interpreter does not show inner values of a model",
                where=self.model.where,
                fix='verify with engine="auto", or cut the model at that value first',
            )
        fed = {name: np.asarray(value) for name, value in read_inputs(self.signature, inputs, self.model.where).items()}
        if state is None:
            require_no_states(self.signature, self.model.where)
        held = read_state(self.signature, state or {}, self.model.where)
        folder = self._child.folder
        if not self._open or not self._child.alive:
            request = {"do": "open", "path": str(self._path.resolve()), "function": self.model.function.name}
            self._child.ask(request, _SECONDS)
            self._open = True
        places = written(folder / "fed", {name: self._stored(name, array) for name, array in (fed | held).items()})
        answer = self._child.ask(
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
            found[kind] = {name: self._carried(at(made, place)) for name, place in answer[kind].table().items()}
        if state is not None:
            state.update(found["states"])
        missing = [f.name for f in self.signature.outputs if f.name not in found["outputs"]]
        if missing:
            raise self._failed(f"no output {', '.join(missing)}")
        return {f.name: found["outputs"][f.name] for f in self.signature.outputs}

    def _stored(self, name: str, array: np.ndarray) -> np.ndarray:
        """An array in the dtype that the program itself declares."""
        held = self.model.function.types[self.model.function.inputs[name]]
        return array.astype(numpy_dtype(held.element), copy=False)

    def _carried(self, array: np.ndarray) -> np.ndarray:
        """An array of its own, in a dtype that NumPy computes with."""
        return np.array(array if array.dtype.isbuiltin == 1 else array.astype(np.float32))

    def close(self) -> None:
        self._child.close()
