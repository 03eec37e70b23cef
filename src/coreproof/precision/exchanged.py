"""ExchangedWeights: an ML Program in whose weight file some weights are exchanged for others of their size, trial after trial."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coreproof.errors import ConversionError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.coreml.weight_file import WeightFile
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats import program


@dataclass(frozen=True)
class _Place:
    file: Path
    begins: int
    own: bytes
    other: bytes


class ExchangedWeights:
    """A copy of a program's weight files, in which weights are written over; ``others``: "layer:parameter" -> its other form."""

    def __init__(self, model: CoreMLModel, others: Mapping[str, Callable[[], np.ndarray]]) -> None:
        if model.folder is None:
            raise ConversionError("the program has no folder of weights", where=model.name)
        self._model = model
        self._scratch = TemporaryFolder()
        self._folder = Path(self._scratch.name)
        shutil.copytree(model.folder / "weights", self._folder / "weights", dirs_exist_ok=True)
        values = _blobs(program.main(model.spec), {})
        self._places = {name: self._place(values[name], read()) for name, read in others.items()}

    def with_all_but(self, kept: Collection[str]) -> CoreMLModel:
        """The program with every weight exchanged save ``kept``; it lasts until the next is asked for."""
        for name, place in self._places.items():
            with place.file.open("r+b") as file:
                file.seek(place.begins)
                file.write(place.own if name in kept else place.other)
        return self._model.with_spec(self._model.spec, self._folder)

    def close(self) -> None:
        """Frees the copy."""
        self._scratch.cleanup()

    def _place(self, value: MIL_pb2.Value, other: np.ndarray) -> _Place:
        blob = value.blobFileValue
        file = self._folder / "weights" / Path(blob.fileName).name
        weights = WeightFile(file)
        _, own, _ = weights.blob(blob.offset)
        dtype = program.MIL_DTYPES[value.type.tensorType.dataType]
        # a copy of the bytes, which are written over in the file that they are mapped from
        return _Place(file, weights.begins(blob.offset), own.tobytes(), np.ascontiguousarray(other, dtype).tobytes())


def _blobs(block: MIL_pb2.Block, outside: Mapping[str, MIL_pb2.Value]) -> dict[str, MIL_pb2.Value]:
    """The constants of the weight file that layers read, by "layer:parameter"."""
    constants, found = dict(outside), dict[str, MIL_pb2.Value]()
    for operation in block.operations:
        if operation.type == "const":
            constants[program.writes(operation)[0]] = operation.attributes["val"]
        for key, binding in program.bindings(operation):
            value = constants.get(binding.name)
            if value is not None and value.WhichOneof("value") == "blobFileValue":
                found[f"{program.name(operation)}:{key}"] = value
        for nested in operation.blocks:
            found.update(_blobs(nested, constants))
    return found
