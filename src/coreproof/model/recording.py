"""Recording: a saved run of a model, read as the model that it stands for: its graph, its inputs, its values.

The file is a .npz: a zip archive of .npy arrays, each written as it was computed, and last ``coreproof.json``, which
says whose values they are. Arrays are numbered, because the names of values may hold anything. A value is read when it is
asked for, and checked by the archive's own checksum.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.errors import InputError, UnreadableModelError
from coreproof.model.atomic import replacing
from coreproof.model.base import Format, Model
from coreproof.model.features import Feature, ImageLayout, ShapeRange, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.graph import Graph, Node, Value

HEADER = "coreproof.json"
VERSION = 1

DAMAGE = (OSError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)
"""What reading a damaged archive may raise; RuntimeError where it seems encrypted or compressed in another way."""

Array = npt.NDArray[Any]


class Recording(Model):
    """What a model computed from given inputs, as ``coreproof.record`` saved it; itself the reference of a verification.

    ``samples`` are the inputs, ``names`` the recorded values in the model's order. ``recorded`` is the format of the
    model it was recorded from, ``engine`` who computed, ``fingerprint`` the digest of that model's file, ``version``
    the coreproof that recorded. ``feeding`` is what the model carried, ``feedings`` what it does itself to its pictures.
    """

    format: Format = "recording"

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        super().__init__(header["model"], path, tuple(header["notes"]))
        self.recorded: str = header["format"]
        self.engine: str = header["engine"]
        self.fingerprint: str = header["fingerprint"]
        self.version: str = header["coreproof"]
        self.inputs: str = header["inputs"]
        self.provenance: dict[str, str] = dict(header["provenance"])
        self.gains: dict[str, tuple[int, float | None, str]] = {
            name: (int(axis), gain, str(entry)) for name, (axis, gain, entry) in header["profiles"].items()
        }
        self.feeding: Feeding | None = None if header["feeding"] is None else feeding_from(header["feeding"])
        self.feedings: dict[str, tuple[Feeding, ...]] = {
            name: tuple(feeding_from(f) for f in listed) for name, listed in header["feedings"].items()
        }
        self._signature = signature_from(header["signature"])
        self._graph = graph_from(header["graph"])
        self._samples: list[dict[str, dict[str, str]]] = [
            {part: dict(sample[part]) for part in ("inputs", "values")} for sample in header["samples"]
        ]

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded values, outputs included."""
        return tuple(self._samples[0]["values"])

    @cached_property
    def samples(self) -> tuple[Mapping[str, Array], ...]:
        """The inputs that were fed, sample by sample."""
        return tuple(self._read(sample["inputs"]) for sample in self._samples)

    def value(self, name: str, sample: int = 0) -> Array:
        """One recorded value; KeyError where it was not recorded."""
        return self._read({name: self._samples[sample]["values"][name]})[name]

    def array(self, entry: str) -> Array:
        """One array of the file by its entry's name."""
        return self._read({"": entry})[""]

    def find(self, inputs: Mapping[str, Array]) -> int:
        """Which sample was made from ``inputs``; InputError where none was."""
        for index, fed in enumerate(self.samples):
            if inputs.keys() == fed.keys() and all(_same(inputs[name], fed[name]) for name in fed):
                return index
        raise InputError(
            "the saved run holds no values for these inputs",
            where=str(self.path),
            expected=self.inputs,
            fix="leave the inputs out: those of the saved run are fed to the other model",
        )

    def save(self, path: str | Path) -> Path:
        """Copies the file."""
        target = Path(path)
        assert self.path is not None
        with replacing(target) as fresh:
            shutil.copyfile(self.path, fresh)
        return target

    def _read(self, entries: Mapping[str, str]) -> dict[str, Array]:
        assert self.path is not None
        return dict(zip(entries, _arrays(self.path, entries.values()), strict=True))


def _same(given: Any, recorded: Array) -> bool:
    given = np.asarray(given)
    return given.shape == recorded.shape and np.array_equal(given, recorded, equal_nan=recorded.dtype.kind == "f")


def is_recording(path: str | Path) -> bool:
    """Whether the file is a saved run, not just arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return HEADER in archive.namelist()
    except DAMAGE:
        return False


def load_recording(path: str | Path) -> Recording:
    """Reads a saved run; its values stay in the file until they are asked for.

    Raises UnreadableModelError for a file that is damaged, cut short, from a newer coreproof, or no saved run.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(HEADER))
            held = set(archive.namelist())
    except KeyError:
        raise _unreadable(path, "arrays only, no coreproof.json", "inputs are given with --inputs") from None
    except DAMAGE as error:
        raise _unreadable(path, str(error) or type(error).__name__) from None
    if isinstance(header, dict) and isinstance(header.get("version"), int) and header["version"] > VERSION:
        raise _unreadable(path, f"version {header['version']} of the format", "install a newer coreproof")
    try:
        recording = Recording(path, header)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _unreadable(path, f"its coreproof.json makes no sense ({type(error).__name__}: {error})") from None
    wanted = {e for s in recording._samples for part in s.values() for e in part.values()}
    lost = sorted({*wanted, *(entry for _, _, entry in recording.gains.values())} - held)
    if lost or not recording._samples:
        raise _unreadable(path, f"{len(lost)} arrays are missing ({', '.join(lost[:3])})" if lost else "no samples")
    return recording


def _unreadable(path: Path, found: str, fix: str | None = None) -> UnreadableModelError:
    return UnreadableModelError(
        "this is not a saved run, or it is damaged",
        where=str(path),
        expected="a file that coreproof verify --save wrote",
        found=found,
        fix=fix or "record it again, or copy it again, whole",
    )


def _arrays(path: Path, entries: Any) -> Iterator[Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in entries:
                yield _array(archive.read(entry))
    except (*DAMAGE, KeyError) as error:
        raise _unreadable(path, str(error)) from None


def _array(data: bytes) -> Array:
    npy: Any = np.lib.format
    stream = io.BytesIO(data)
    read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    # before anything is allocated: a header may claim any size
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of {dtype} {shape} does not fit the {len(data)} bytes stored for it")
    stream.seek(0)
    array: Array = npy.read_array(stream, allow_pickle=False)
    return array


# the header


def signature_to(signature: Signature) -> dict[str, Any]:
    """A signature as JSON holds it."""
    return {
        "inputs": [_feature_to(f) for f in signature.inputs],
        "outputs": [_feature_to(f) for f in signature.outputs],
        "states": [_feature_to(f) for f in signature.states],
        "labels": None if signature.labels is None else list(signature.labels),
        "predicted_label": signature.predicted_label,
        "probabilities": signature.probabilities,
        "scores": signature.scores,
        "metadata": dict(signature.metadata),
    }


def signature_from(stored: Mapping[str, Any]) -> Signature:
    """The signature that ``signature_to`` wrote."""
    return Signature(
        inputs=tuple(_feature_from(f) for f in stored["inputs"]),
        outputs=tuple(_feature_from(f) for f in stored["outputs"]),
        states=tuple(_feature_from(f) for f in stored["states"]),
        labels=None if stored["labels"] is None else tuple(stored["labels"]),
        predicted_label=stored["predicted_label"],
        probabilities=stored["probabilities"],
        scores=stored["scores"],
        metadata=dict(stored["metadata"]),
    )


def _feature_to(feature: Feature) -> dict[str, Any]:
    stored = dict(vars(feature))
    stored["image"] = None if feature.image is None else dict(vars(feature.image))
    stored["ranges"] = [[r.low, r.high] for r in feature.ranges]
    return stored


def _feature_from(stored: Mapping[str, Any]) -> Feature:
    return Feature(
        **{
            **stored,
            "shape": None if stored["shape"] is None else tuple(stored["shape"]),
            "image": None if stored["image"] is None else ImageLayout(**stored["image"]),
            "enumerated": tuple(tuple(s) for s in stored["enumerated"]),
            "ranges": tuple(ShapeRange(low, high) for low, high in stored["ranges"]),
        }
    )


def feeding_from(stored: Mapping[str, Any]) -> Feeding:
    """A feeding whose fields were written as JSON."""
    lists = {name: tuple(stored[name]) for name in ("size", "mean", "std")}
    return Feeding(**{**stored, **lists})


def graph_to(graph: Graph) -> dict[str, Any]:
    """A graph as JSON holds it; of the attributes those that are plain and short, of the weights dtype and shape."""
    return {
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "nodes": [_node_to(node) for node in graph.nodes],
        "values": {v.name: [v.dtype, v.shape, v.constant] for v in graph.values.values()},
    }


def graph_from(stored: Mapping[str, Any]) -> Graph:
    """The graph that ``graph_to`` wrote."""
    return Graph(
        stored["name"],
        tuple(_node_from(node) for node in stored["nodes"]),
        tuple(stored["inputs"]),
        tuple(stored["outputs"]),
        {
            name: Value(name, dtype, None if shape is None else tuple(shape), bool(constant))
            for name, (dtype, shape, constant) in stored["values"].items()
        },
    )


def _node_to(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "operator": node.operator,
        "inputs": node.inputs,
        "outputs": node.outputs,
        "domain": node.domain,
        "attributes": {k: v for k, v in node.attributes.items() if _is_plain(v)},
        "parameters": node.parameters,
        "source": node.source,
        "blocks": [graph_to(block) for block in node.blocks],
    }


def _node_from(stored: Mapping[str, Any]) -> Node:
    return Node(
        name=stored["name"],
        operator=stored["operator"],
        inputs=tuple(stored["inputs"]),
        outputs=tuple(stored["outputs"]),
        domain=stored["domain"],
        attributes={k: tuple(v) if isinstance(v, list) else v for k, v in stored["attributes"].items()},
        parameters={name: (dtype, tuple(shape)) for name, (dtype, shape) in stored["parameters"].items()},
        source=stored["source"],
        blocks=tuple(graph_from(block) for block in stored["blocks"]),
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return len(value) <= 16 and all(isinstance(v, int | float | str) for v in value)
    return value is None or isinstance(value, int | float | str)
