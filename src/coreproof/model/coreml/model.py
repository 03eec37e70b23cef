"""Core ML files: a .mlmodel, or a .mlpackage folder with its manifest and weights."""

from __future__ import annotations

import json
import shutil
import uuid
import weakref
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from google.protobuf.message import DecodeError

from coreproof.errors import ConversionError, UnreadableModelError
from coreproof.model.base import SIGN, Model
from coreproof.model.coreml.check import require_sound
from coreproof.model.coreml.compression_report import CompressionReport
from coreproof.model.coreml.features import read_signature
from coreproof.model.coreml.graph import read_graph
from coreproof.model.coreml.noted_labels import noted_untrained
from coreproof.model.coreml.package import package_spec as package_spec
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.coreml.weight_file import WeightFile
from coreproof.model.features import Signature
from coreproof.model.files.nesting import refuse_depth
from coreproof.model.files.outputs import MLMODEL, PACKAGE, Kind
from coreproof.model.files.paths import inside, regular_file
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.files.wire import reserialise
from coreproof.model.formats import classic, network
from coreproof.model.graph import Graph
from coreproof.model.noted_feeding import noted_feeding

_MODEL_PATH_PREFIX = "@model_path/"
NEWEST_SPECIFICATION = 10


class CoreMLModel(Model):
    """A Core ML model as it lies on disk: the protobuf ``spec`` and, for ML Programs, the folder of its weights.

    ``folder`` is what "@model_path" stands for in the spec: the directory that holds ``weights/``. ``provenance`` maps
    values of this model to the values of the model that it was converted from, where known. ``origin`` is the file or package
    that it was read from, or its bytes: what did not change since is stored again as it is there, byte for byte.
    ``compression`` is the proof of a conversion that compressed weights.
    ``stored_default`` is the default function with which it is stored, where every verb works on another one (``at_function``).
    """

    def __init__(
        self,
        spec: Model_pb2.Model,
        *,
        name: str,
        path: Path | None = None,
        folder: Path | None = None,
        notes: tuple[str, ...] = (),
        keep_alive: TemporaryFolder | None = None,
        provenance: Mapping[str, str] | None = None,
        origin: Path | bytes | None = None,
    ) -> None:
        super().__init__(name, path, notes)
        self.spec = spec
        self.untrained = noted_untrained(spec.description.metadata.userDefined)
        self.feeding = noted_feeding(spec.description.metadata.userDefined)
        self.folder = folder
        self.origin = origin
        self._parent: CoreMLModel | None = None
        self.stored_default: str | None = None
        self.compression: CompressionReport | None = None
        self.provenance = dict(provenance or {})
        if keep_alive is not None:
            self.keep(keep_alive)
        self._weight_files: dict[Path, WeightFile] = {}
        self._weights_named: dict[str, WeightFile] = {}
        self.kind: str = spec.WhichOneof("Type") or "nothing"
        if self.kind == "mlProgram":
            self.format = "mlprogram"
        elif network.is_network(spec):
            self.format = "neuralnetwork"
        else:
            self.format = "pipeline" if classic.is_pipeline(spec) else "classic"

    def __getstate__(self) -> dict[str, object]:
        """What pickle keeps: the spec as bytes; weights as bytes too, unless they lie in the package that was loaded."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("_parent", "_weight_files", "_weights_named")}
        state["spec"] = self.spec.SerializeToString()
        weights: dict[str, bytes] = {}
        if self.folder is not None and not self._in_origin(self.folder):
            files = (file for file in sorted((self.folder / "weights").rglob("*")) if file.is_file())
            weights = {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in files}
        return {**state, "weights": weights}

    def __setstate__(self, state: dict[str, object]) -> None:
        weights, spec = state.pop("weights"), state.pop("spec")
        assert isinstance(weights, dict)
        assert isinstance(spec, bytes)
        self.__dict__.update(state, spec=Model_pb2.Model.FromString(spec))
        # open files and parents stay with the process that pickled it
        self._parent, self._weight_files, self._weights_named = None, {}, {}
        if weights:  # the folder that they came from is gone with the process that made it
            kept = TemporaryFolder()
            weakref.finalize(self, kept.cleanup)
            self.folder = Path(kept.name)
            for name, content in weights.items():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(content)

    def keep(self, folder: TemporaryFolder) -> None:
        """Keeps a folder of weights as long as the model lives."""
        weakref.finalize(self, folder.cleanup)

    def _in_origin(self, folder: Path) -> bool:
        return isinstance(self.origin, Path) and folder.resolve().is_relative_to(self.origin.resolve())

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions of an ML Program that has several, its default one first."""
        if not self.is_program:
            return ()
        description = self.spec.description
        names = [function.name for function in description.functions]
        return tuple(sorted(names, key=lambda name: name != (self.stored_default or description.defaultFunctionName)))

    @property
    def at_a_function(self) -> bool:
        """Whether it was opened at one of them."""
        return self.stored_default is not None

    def at_function(self, name: str) -> Model:
        """The package with this function as the one that every verb works on; written, it has the default that it had.

        Raises ConversionError for a name that it does not have.
        """
        if not self.is_program:
            return super().at_function(name)
        described = [function.name for function in self.spec.description.functions]
        if name not in self.spec.mlProgram.functions or (described and name not in described):
            raise ConversionError(
                "the model has no such function",
                where=self.where,
                expected=" or ".join(sorted(described or self.spec.mlProgram.functions))
                or "an ML Program with functions",
                found=name,
            )
        default = self.spec.description.defaultFunctionName
        if not described:
            return self
        spec = self.spec
        if name != default:
            spec = type(self.spec)()
            spec.CopyFrom(self.spec)
            spec.description.defaultFunctionName = name
        chosen = self.with_spec(spec)
        chosen.stored_default = self.stored_default or default
        chosen.path = self.path
        chosen.name = f"{self.name.partition(SIGN)[0]}{SIGN}{name}"
        return chosen

    @cached_property
    def signature(self) -> Signature:
        """The features that the model declares."""
        return read_signature(self.spec)

    @cached_property
    def graph(self) -> Graph:
        """The layers of the model, as they are stored."""
        return read_graph(self.spec)

    @property
    def network(self) -> network.Network:
        """The NeuralNetwork message (plain, classifier or regressor: all three hold layers and preprocessing)."""
        return network.main(self.spec)

    def weight_file(self, file_name: str) -> WeightFile:
        """The reader for a BlobFileValue's ``fileName``; the file must lie inside the model's own folder."""
        if self.folder is None:
            raise UnreadableModelError(
                f"the model refers to {file_name!r}, but it is a single file without a folder of weights",
                where=self.where,
                fix="load the whole .mlpackage folder instead of the .mlmodel inside it",
            )
        if file_name not in self._weights_named:  # to look where a name leads takes longer than to read a weight
            name = file_name.removeprefix(_MODEL_PATH_PREFIX)
            package = next((folder for folder in self.folder.parents if folder.suffix == ".mlpackage"), self.folder)
            path = inside(self.folder, name, what="the model's weight file", where=self.where, copied=package)
            if path not in self._weight_files:
                self._weight_files[path] = WeightFile(path)
            self._weights_named[file_name] = self._weight_files[path]
        return self._weights_named[file_name]

    def copy_blobs(self, blobs: Iterable[MIL_pb2.Value.BlobFileValue], folder: Path) -> None:
        """Copies what these references name, and no more, into weight files in ``folder``; they then say where it is."""
        by_file: dict[str, list[MIL_pb2.Value.BlobFileValue]] = {}
        for blob in blobs:
            by_file.setdefault(blob.fileName, []).append(blob)
        for name, own in by_file.items():
            target = inside(folder, name.removeprefix(_MODEL_PATH_PREFIX), what="a weight file", where=self.where)
            target.parent.mkdir(parents=True, exist_ok=True)
            # what is copied is packed anew, so that every offset is another one
            moved = self.weight_file(name).copy_blobs(target, [int(blob.offset) for blob in own])
            for blob in own:
                blob.offset = moved[int(blob.offset)]

    @property
    def weight_files(self) -> tuple[WeightFile, ...]:
        """The weight files that were opened so far."""
        return tuple(self._weight_files.values())

    @property
    def where(self) -> str:
        """How messages name this model."""
        return str(self.path) if self.path is not None else self.name

    def with_spec(self, spec: Model_pb2.Model, folder: Path | None = None) -> CoreMLModel:
        """The same model with another ``spec`` (and, if given, another folder of weights); it has no path yet."""
        model = CoreMLModel(
            spec,
            name=self.name,
            folder=folder or self.folder,
            notes=self.notes,
            origin=self.origin,
        )
        model.stored_default = self.stored_default
        model.take_provenance(self)
        model._parent = self  # whose temporary folder of weights may be in use
        return model

    def stored(self) -> bytes:
        """The spec as it is stored: what did not change since it was read is spelled as in the file that it came from."""
        original = self.origin if isinstance(self.origin, bytes) else None
        spec = self.spec
        if self.stored_default is not None:
            spec = Model_pb2.Model()
            spec.CopyFrom(self.spec)
            spec.description.defaultFunctionName = self.stored_default
        file = self._source()
        if file is not None:
            original = file.read_bytes()
        if original is not None:
            return reserialise(original, spec)
        # the same model gives the same bytes each time
        return bytes(spec.SerializeToString(deterministic=True))

    def _source(self) -> Path | None:
        """The file that the spec came from, if it is still there."""
        if not isinstance(self.origin, Path) or not self.origin.exists():
            return None
        if not self.origin.is_dir():
            return self.origin
        try:
            return package_spec(self.origin)
        except UnreadableModelError:
            return None

    def _kind(self, target: Path) -> Kind:
        return MLMODEL if target.suffix == ".mlmodel" else PACKAGE

    def write(self, fresh: Path, target: Path) -> None:
        """Writes a .mlpackage folder (any kind) or a .mlmodel file (kinds without a weight folder).

        A model that was read from a file keeps all that was not changed: the spelling of its spec, and the other items,
        the identifiers and the manifest of its package.
        """
        if fresh.suffix == ".mlmodel":
            if self.is_program:
                raise UnreadableModelError(
                    "an ML Program cannot be stored as a single .mlmodel file",
                    where=str(target),
                    fix=f"save it as {fresh.with_suffix('.mlpackage').name}",
                )
            fresh.write_bytes(self.stored())
        elif isinstance(self.origin, Path) and self.origin.is_dir() and (source := self._source()) is not None:
            self._copy_package(self.origin.resolve(), source, fresh)
        else:
            self._write_package(fresh)

    def _copy_package(self, origin: Path, spec_file: Path, package: Path) -> None:
        """The package that the model came from, with this spec and these weights in the place of its own."""

        def outside(folder: str, names: list[str]) -> set[str]:
            return {name for name in names if not (Path(folder) / name).resolve().is_relative_to(origin)}

        # what a link in the package would bring in from elsewhere stays out
        shutil.copytree(origin, package, ignore=outside, dirs_exist_ok=True)
        copied = package / spec_file.relative_to(origin)
        copied.write_bytes(self.stored())
        # weights that were changed lie in a folder of their own; else those of the copied package are right already
        if self.folder is not None and self.folder.resolve() != spec_file.parent:
            shutil.rmtree(copied.parent / "weights", ignore_errors=True)
            shutil.copytree(self.folder / "weights", copied.parent / "weights")

    def _write_package(self, package: Path) -> None:
        data = package / "Data" / "com.apple.CoreML"
        data.mkdir(parents=True)
        (data / "model.mlmodel").write_bytes(self.stored())
        items = {"model.mlmodel": ("com.apple.CoreML/model.mlmodel", "CoreML Model Specification")}
        if self.folder is not None and (self.folder / "weights").is_dir():
            shutil.copytree(self.folder / "weights", data / "weights")
            items["weights"] = ("com.apple.CoreML/weights", "CoreML Model Weights")
        identifiers = {
            # made from the names: the same model gives the same bytes each time
            name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"coreproof:{self.name}:{name}")).upper()
            for name in items
        }
        manifest = {
            "fileFormatVersion": "1.0.0",
            "itemInfoEntries": {
                identifiers[name]: {"author": "com.apple.CoreML", "description": text, "name": name, "path": item}
                for name, (item, text) in items.items()
            },
            "rootModelIdentifier": identifiers["model.mlmodel"],
        }
        (package / "Manifest.json").write_text(json.dumps(manifest, indent=4))


def load_coreml(path: Path) -> CoreMLModel:
    """Reads a .mlmodel file or a .mlpackage folder.

    Raises UnreadableModelError for a damaged or incomplete one, UnsafeModelError for one that reaches outside itself.
    """
    if path.is_dir():
        spec_file = package_spec(path)
        folder: Path | None = spec_file.parent
    else:
        # a pipe or a device would be waited for without end
        spec_file, folder = regular_file(path, what="the model"), None
    spec = _parse(spec_file, path)
    model = CoreMLModel(spec, name=path.stem, path=path, folder=folder, origin=path)
    require_sound(model, spec)
    return model


def _parse(spec_file: Path, where: Path) -> Model_pb2.Model:
    spec = Model_pb2.Model()
    content = spec_file.read_bytes()
    try:
        spec.ParseFromString(content)
    except DecodeError:
        refuse_depth(content, spec, str(where))
        raise UnreadableModelError(
            "the file is not a Core ML model, or it is damaged",
            where=str(where),
            expected="a Core ML model (protobuf)",
            found=f"{len(content)} bytes that do not parse",
            fix="it was probably cut short while it was copied or downloaded; copy it again",
        ) from None
    if spec.WhichOneof("Type") is None or spec.specificationVersion < 1:
        raise UnreadableModelError(
            "the file is not a Core ML model",
            where=str(where),
            expected="a Core ML model with a specification version and a model type",
            found=f"{len(content)} bytes without them",
            fix="check that the file's name says what it is",
        )
    if spec.specificationVersion > NEWEST_SPECIFICATION:
        known = f"Core ML specification version {NEWEST_SPECIFICATION}"
        raise UnreadableModelError.of_newer("model", where, known, spec.specificationVersion)
    return spec
