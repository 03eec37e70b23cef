"""join_functions: ML Programs as the functions of one package, which stores what they share once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.coreml.weight_file import WeightFile, write_blobs
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats import program
from coreproof.model.load import load
from coreproof.model.public import public

_SPECIFICATION = 9
"""Packages of several functions came with iOS 18."""
_FILE = "@model_path/weights/weight.bin"
_SAME = ("input", "output", "state", "predictedFeatureName", "predictedProbabilitiesName")
"""What a function's description has of a model's."""


@public
def join_functions(
    models: Mapping[str, Model | str | Path], default: str | None = None, name: str | None = None
) -> CoreMLModel:
    """One package whose functions these ML Programs are, by their names; ``default`` (else the first) is its default one.

    Weights that are the same bytes are stored once, whichever functions read them. Of a package with several functions its
    default one is taken, or the one that it was loaded at. Raises EditError for what is no ML Program of iOS 18 or later.

    Example:
        >>> saved = cp.convert("net.onnx", "mlprogram", target="iOS18").save("new.mlpackage")
        >>> both = cp.join_functions({"small": "new.mlpackage", "large": "new.mlpackage"})
        >>> ", ".join(both.functions)
        'small, large'

    """
    given = {function: load(model) for function, model in models.items()}
    default = default or next(iter(given), "")
    _require(given, default)
    parts = {function: model for function, model in given.items() if isinstance(model, CoreMLModel)}
    first = next(iter(parts.values()))
    spec = Model_pb2.Model(
        specificationVersion=max(_SPECIFICATION, *(model.spec.specificationVersion for model in parts.values()))
    )
    spec.mlProgram.version = first.spec.mlProgram.version
    spec.description.metadata.CopyFrom(first.spec.description.metadata)
    spec.description.defaultFunctionName = default
    blobs: list[tuple[MIL_pb2.Value.BlobFileValue, WeightFile]] = []
    for function, model in parts.items():
        chosen = program.main_name(model.spec)
        stored = spec.mlProgram.functions[function]
        stored.CopyFrom(model.spec.mlProgram.functions[chosen])
        operations = [o for block in stored.block_specializations.values() for o in block.operations]
        blobs += [(blob, model.weight_file(blob.fileName)) for blob in program.blobs(operations)]
        described = spec.description.functions.add(name=function)
        own = program.description_of(model.spec, chosen)
        for field in _SAME:
            value = getattr(own, field)
            if isinstance(value, str):
                setattr(described, field, value)
            else:
                getattr(described, field).extend(value)
    scratch = TemporaryFolder()
    folder = Path(scratch.name) / "weights"
    folder.mkdir()
    places = write_blobs(folder / "weight.bin", [(file, int(blob.offset)) for blob, file in blobs])
    for (blob, _), offset in zip(blobs, places, strict=True):
        blob.fileName, blob.offset = _FILE, offset
    return CoreMLModel(
        spec, name=name or "_".join(parts), folder=Path(scratch.name), keep_alive=scratch, notes=first.notes
    )


def _require(given: Mapping[str, Model], default: str) -> None:
    problems = [f"{name}: {model.format}" for name, model in given.items() if not model.is_program]
    for name, model in given.items():
        if isinstance(model, CoreMLModel) and model.is_program and model.spec.specificationVersion < _SPECIFICATION:
            problems.append(f"{name}: specification version {model.spec.specificationVersion}")
        if not name.isidentifier() or not name.isascii():
            problems.append(f"{name!r} is no name of a function")
    if default not in given:
        problems.append(f"the default function {default!r} is none of them")
    if problems or not given:
        raise EditError(
            "these models cannot be the functions of one package",
            expected="ML Programs for iOS 18 or later, by names of letters, digits and underscores",
            found="; ".join(problems) or "no model",
            fix="convert them with target iOS18",
        )
