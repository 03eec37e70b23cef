"""record: runs a model once and writes what it computed, to be compared later, or on another machine."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path

import numpy as np

from coreproof.errors import InputError
from coreproof.feeding.drawn import SEED, Inputs, Sample
from coreproof.feeding.inputs import describe, feeds_of
from coreproof.feeding.own_preprocessing import own_feedings
from coreproof.model.arguments import whole
from coreproof.model.base import Model
from coreproof.model.digest import model_digest
from coreproof.model.feeding import Feeding
from coreproof.model.files.atomic import replacing
from coreproof.model.files.outputs import RUN
from coreproof.model.graph import Graph, Value
from coreproof.model.load import load
from coreproof.model.opened import opened
from coreproof.model.progress import Progress
from coreproof.model.public import public
from coreproof.model.recorded_header import graph_to, signature_to
from coreproof.model.recording import HEADER, VERSION, Recording, load_recording
from coreproof.pairing.align import value_index
from coreproof.pairing.structured import Leaves
from coreproof.pairing.taps import as_array, batched, engine_shapes, match_outputs, taps_of, value_bytes
from coreproof.runtime.open import session
from coreproof.runtime.session import Engine, Precision, Session, read_inputs
from coreproof.verification.channels import profiles_of
from coreproof.verification.steps import Steps
from coreproof.version import __version__


@public
def record(
    model: Model | str | Path | object,
    path: str | Path,
    inputs: Inputs | None = None,
    *,
    engine: Engine = "auto",
    precision: Precision = "stored",
    outputs_only: bool = False,
    seed: int = SEED,
    memory: int = 1 << 28,
    progress: Progress | None = None,
    replace: bool = False,
) -> Recording:
    """Runs ``model``, or that at a path, on ``inputs`` and saves every value that its engine can bring out.

    The file (.npz) holds the inputs, the values (outputs only, where ``outputs_only`` or the engine shows no more, as
    Apple's own, ``engine="coreml"``), the model's graph and signature, where values came from, the digest of the model's file,
    the engine, and coreproof's version. It appears whole or not at all. The result, or ``load(path)``, is what
    ``verify`` takes as either side. ``memory``: how many bytes of values are held at a time. ``inputs`` default to
    random values, as in ``verify``. Of a model that remembers they are the steps of a sequence, and what it remembers before
    each is among what it was fed.

    Raises OutputExistsError where something else than a saved run stands at ``path``, unless ``replace`` allows it;
    InputError, RunError, and UnsupportedOperatorsError of a model that cannot be run here.

    Example:
        >>> recording = cp.record("net.onnx", "run.npz")
        >>> bool(cp.verify(recording, "net.mlpackage"))
        True

    """
    path, seed, memory = Path(path), whole(seed, "seed"), whole(memory, "memory")
    if path.suffix.lower() != ".npz":
        raise InputError("a run is saved as .npz", where=str(path), fix=f"call it {path.with_suffix('.npz').name}")
    loaded = load(model)
    if isinstance(loaded, Recording):
        raise InputError("this is a saved run already", where=str(loaded.path), fix="copy the file")
    model = opened(loaded)
    with replacing(path, RUN, replace=replace) as fresh, session(model, engine, precision) as running:
        if model.remembers:
            steps = Steps(model, model, {name: name for name in model.remembers})
            drawn = steps.sequence(running, running, inputs, None, seed)
        else:
            drawn = feeds_of(model, model, inputs, None, seed, (running, running))
        fed = [read_inputs(running.signature, sample, model.name) for sample in drawn.reference]
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            writer = _Writer(archive, model, running, drawn.reference)
            writer.write_inputs(fed)
            writer.write_values([] if outputs_only else writer.inner, memory, progress)
            header = json.dumps(writer.header(describe(fed, drawn.said)))
            # a ZipInfo of its own: by the name alone the entry would hold the time, and no two runs be the same bytes
            archive.writestr(zipfile.ZipInfo(HEADER), header, zipfile.ZIP_DEFLATED)
    return load_recording(path)


class _Writer:
    """One file under way: which array went where, sample by sample."""

    def __init__(self, archive: zipfile.ZipFile, model: Model, running: Session, samples: Sequence[Sample]) -> None:
        self.archive, self.model, self.running, self.samples = archive, model, running, samples
        self.side = value_index(model, running.tappable, engine_shapes(running))
        self.outputs = [pair.candidate for pair in match_outputs(running, running)]
        # values are stored by name: the second would stand for both
        if twice := sorted({name for name in self.outputs if self.outputs.count(name) > 1}):
            raise InputError(
                "a run of a model that names an output twice cannot be saved",
                where=model.name,
                expected="each output once",
                found=", ".join(twice),
                fix="leave one out: coreproof edit, extract",
            )
        # stages of a pipeline may make values of one name, of which one can be brought out
        self.inner = [name for name in dict.fromkeys(self.side.inner_values) if name not in self.outputs]
        self.inputs: list[dict[str, str]] = []
        self.values: list[dict[str, str]] = [{} for _ in samples]
        self.built: list[dict[str, dict[str, object]]] = [{} for _ in samples]
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._count = 0

    def write_inputs(self, fed: Sequence[Mapping[str, object]]) -> None:
        self.inputs = [{} for _ in fed]
        for index, sample in enumerate(fed):
            for name, value in sample.items():
                self.inputs[index][name] = self._put(self._noted("inputs", index, name, value))

    def _noted(self, part: str, sample: int, name: str, value: object) -> np.ndarray:
        """A value as an array; of a dictionary or a sequence it is noted how it was built."""
        array = as_array(value)
        if isinstance(array, Leaves):
            self.built[sample].setdefault(part, {})[name] = array.layout
        return array

    def write_values(self, inner: Sequence[str], memory: int, progress: Progress | None) -> None:
        """Runs the model with as many values brought out at a time as ``memory`` holds; the outputs come last."""
        groups = list(batched(inner, memory, value_bytes(self.running, self.side, self.samples, memory)))
        taps = [taps_of(self.running, group) for group in groups]
        walks = [self.running.walk(sample, taps) for sample in self.samples]
        done = 0
        for group in [*groups, self.outputs]:
            for index, (sample, walk) in enumerate(zip(self.samples, walks, strict=True)):
                # outputs are those of an ordinary run, without anything brought out
                last = group is self.outputs
                computed = self.running.run(sample, taps_of(self.running, group)) if last else next(walk)
                for name in group:
                    array = self._noted("values", index, name, computed.pop(name))
                    self.shapes.setdefault(name, array.shape)
                    self.values[index][name] = self._put(array)
                # before the next sample's are made: two of them may not fit
                del computed
            done += len(group)
            if progress is not None:
                progress(f"recording {self.model.name}", done, len(inner) + len(self.outputs))

    def header(self, inputs: str) -> dict[str, object]:
        return {
            "version": VERSION,
            "coreproof": __version__,
            "model": self.model.name,
            "format": self.model.format,
            "fingerprint": model_digest(self.model),
            "engine": self.running.engine,
            "notes": list(self.model.notes),
            "inputs": inputs,
            "signature": signature_to(self.running.signature),
            "graph": graph_to(_with_shapes(self.model.graph, self.shapes)),
            "feeding": _asdict(self.model.feeding),
            "feedings": {
                f.name: [_asdict(feeding) for feeding in own_feedings(self.running, f)]
                for f in self.running.signature.inputs
                if f.image is not None
            },
            "provenance": dict(self.model.provenance),
            "made_from": sorted(self.model.made_from),
            "profiles": self._profiles(),
            "samples": [
                {"inputs": fed, "values": made, **({"built": built} if built else {})}
                for fed, made, built in zip(self.inputs, self.values, self.built, strict=True)
            ],
        }

    def _profiles(self) -> dict[str, tuple[int, float | None, str]]:
        """How unevenly errors spread over the channels of each value: a tolerance needs it, and the weights stay behind."""
        known = profiles_of(self.running)
        entries: dict[bytes, str] = {}
        stored = {}
        for name in self.shapes:
            if name in known:
                shares = known[name].shares
                key = shares.tobytes()
                if key not in entries:  # what acts on each element alone hands a profile on: many values share one
                    entries[key] = self._put(shares)
                stored[name] = (known[name].axis, known[name].gain, entries[key])
        return stored

    def _put(self, value: object) -> str:
        # numbered: the names of values may hold anything
        entry = f"{self._count:05d}.npy"
        self._count += 1
        array = _storable(np.asarray(value))
        # without the time of day, so that a run gives the same bytes each time
        info = zipfile.ZipInfo(entry)
        info.compress_type = zipfile.ZIP_DEFLATED if _compresses(array) else zipfile.ZIP_STORED
        with self.archive.open(info, "w", force_zip64=True) as stream:
            np.save(stream, array, allow_pickle=False)
        return entry


def _asdict(feeding: Feeding | None) -> dict[str, object] | None:
    return None if feeding is None else dict(vars(feeding))


def _compresses(array: np.ndarray) -> bool:
    """Whether a look at three places says that compression is worth its time: zeros behind a relu, not the digits of floats."""
    flat = array.reshape(-1)
    sample = b"".join(flat[start : start + 4096].tobytes() for start in (0, flat.size // 2, max(0, flat.size - 4096)))
    # deflate at its quickest, on three times 4096 numbers
    return len(zlib.compress(sample, 1)) < 0.5 * len(sample)


def _storable(array: np.ndarray) -> np.ndarray:
    """Without pickle: text as fixed-width text, formats that numpy has only as an extension (bfloat16) in float32."""
    if array.dtype.kind == "O":
        return array.astype(str)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _with_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    values = dict(graph.values)
    for name, shape in shapes.items():
        values[name] = changed(values.get(name, Value(name)), shape=shape)
    return changed(graph, values=values)
