"""The models of a line-up, made as its entries say; and what identifies each, without making it."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir

from coreproof.comparison.lineup import Lineup, LineupEntry
from coreproof.conversion.convert import convert
from coreproof.errors import LineupError
from coreproof.model.base import Model
from coreproof.model.digest import model_digest
from coreproof.model.feeding import Feeding
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.versions import installed


class ModelFactory:
    """Makes the models of one line-up, each at most once while it is needed."""

    def __init__(self, lineup: Lineup) -> None:
        self.lineup = lineup
        self._sources: dict[str, Model] = {}
        self._made: dict[str, Model] = {}
        self._exported: dict[int, tuple[Model, Model]] = {}
        self._digests: dict[str, str] = {}

    def source(self, name: str) -> Model:
        """The loaded source of an entry that has one."""
        if name not in self._sources:
            source, lineup = self.lineup.entry(name).source, self.lineup
            self._sources[name] = load(source, trust=lineup.trust, folder=lineup.folder, stored=lineup.stored)
        return self._sources[name]

    def model(self, name: str) -> Model:
        """The model of an entry, converted and changed as it says."""
        if name not in self._made:
            self._made[name] = self._make(self.lineup.entry(name))
        return self._made[name]

    def feeding(self, name: str) -> Feeding | None:
        """How a model is fed: as the line-up says, else as the model says that it was made from."""
        told = self.lineup.feeding(name)
        if told is not None:
            return told
        origin = self.lineup.entry(name)
        while origin.base is not None:
            origin = self.lineup.entry(origin.base)
        return self.source(origin.name).feeding

    def forget(self, finished: str, still_to_come: tuple[str, ...]) -> None:
        """Lets go of models that no entry to come is made from."""
        needed = {d for name in still_to_come for d in self._ancestors(name)} | set(still_to_come)
        self._made = {name: model for name, model in self._made.items() if name in needed}
        self._sources = {name: model for name, model in self._sources.items() if name in needed}
        # exports go by the identity of their module, which only lives as long as it is held
        kept = {id(model) for model in (*self._made.values(), *self._sources.values())}
        self._exported = {key: pair for key, pair in self._exported.items() if key in kept}

    def _ancestors(self, name: str) -> set[str]:
        parents = self.lineup.entry(name).depends_on
        return {a for parent in parents for a in (parent, *self._ancestors(parent))}

    def _make(self, entry: LineupEntry) -> Model:
        model = self.source(entry.name) if entry.base is None else self.model(entry.base)
        # in this order: what changes an ONNX graph comes before it is converted
        if entry.shape is not None:
            model = with_input_shape(_onnx(model, entry.name, "shape"), entry.shape)
        if entry.pooling is not None:
            model = with_partial_windows(_onnx(model, entry.name, "pooling"))
        if entry.weights_from is not None:
            model = with_weights_of(_onnx(model, entry.name, "weights_from"), self.model(entry.weights_from))
        if entry.convert is not None:
            model = self._convert(entry, model)
        return model

    def _convert(self, entry: LineupEntry, model: Model) -> Model:
        assert entry.convert is not None
        if model.is_torch:
            model = self._exported_once(model)
        if entry.convert == "onnx":
            return convert(model, "onnx")
        images = None
        if entry.image:
            from coreproof.conversion.onnx_to_coreml.features import ImageInput

            feeding = self.feeding(entry.name)
            if feeding is None:
                raise LineupError(f"{entry.name} is to take pictures, but its feeding is not known", fix="give feed")
            images = {model.signature.inputs[0].name: ImageInput.from_feeding(feeding)}
        return convert(model, entry.convert, precision=entry.precision, images=images)

    def _exported_once(self, model: Model) -> Model:
        """A PyTorch model as ONNX: what every format is made of, and what takes longest."""
        if id(model) not in self._exported:
            self._exported[id(model)] = (model, convert(model, "onnx"))
        return self._exported[id(model)][1]

    def digest(self, name: str) -> str:
        """Changes with what the source of an entry computes; empty for an entry that is made from another."""
        if name not in self._digests:
            entry = self.lineup.entry(name)
            made = entry.base is not None or entry.device is not None
            self._digests[name] = "" if made else model_digest(self.source(name))
        return self._digests[name]

    def comes_from_files(self, name: str) -> bool:
        """Whether every machine loads the model for itself; what was made in memory is sent as it is."""
        entries = [self.lineup.entry(each) for each in (name, *self._ancestors(name))]
        return all(entry.source is None or isinstance(entry.source, str | Path) for entry in entries)

    def key(self, name: str) -> str:
        """Changes with the model's bytes, how it is made and fed, and with the code and engines that run it."""
        # sorted, so that equal recipes are equal texts
        text = json.dumps({"recipe": self._recipe(name), **made_by()}, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def _recipe(self, name: str) -> dict[str, object]:
        entry = self.lineup.entry(name)
        feeding = self.lineup.feeding(name)
        if entry.device is not None:
            answers = hashlib.blake2b(digest_size=12)
            for photo, values in sorted(entry.device.answers.items()):
                # a NUL is in no name, so that no two lists of answers give the same bytes
                answers.update(photo.encode() + b"\0" + values.tobytes())
            return {"device": entry.device.engine, "model": entry.device.fingerprint, "answers": answers.hexdigest()}
        return {
            "source": self.digest(name) if entry.base is None else None,
            "parents": [self._recipe(parent) for parent in entry.depends_on],
            "made": [entry.convert, entry.precision, entry.image, entry.shape, entry.pooling],
            # what is stored in a file already no tool makes anew
            "with": installed(_TOOLS) if entry.depends_on else None,
            "run": [entry.engine, entry.arithmetic, entry.softmax],
            "feeding": None if feeding is None else asdict(feeding),
        }


_CODE = (
    "comparison/predictor.py",
    "comparison/variants.py",
    "comparison/worker.py",
    "conversion",
    "feeding",
    "model",
    "runtime",
)
"""The code that reads, converts and runs models: what an older version said is not reused."""


def made_by() -> dict[str, object]:
    """The code and the engines that answer here."""
    return {"code": code_digest(*_CODE), "engines": _engines()}


@cache
def code_digest(*places: str) -> str:
    """Changes with the code in files and folders of this package."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.blake2b(digest_size=12)
    for place in places:
        path = root / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            digest.update(file.read_bytes())
    return digest.hexdigest()


_ENGINES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "torch",
    "torchvision",
    "openvino",
    "coreai-core",
    "pillow",
    "numpy",
)
_TOOLS = ("coremltools", "onnx", "onnx-ir", "onnxscript")
"""What makes one model from another."""


def _engines() -> dict[str, str]:
    """What runs models and reads photos; on a Mac, its Core ML too."""
    return {**installed(_ENGINES), "macos": platform.mac_ver()[0]}


def _onnx(model: Model, name: str, option: str) -> OnnxModel:
    if not isinstance(model, OnnxModel):
        raise LineupError(f"{option} of {name} needs an ONNX model", found=model.format)
    return model


def with_input_shape(model: OnnxModel, shape: tuple[int, ...]) -> OnnxModel:
    """The same network with its only input in another shape; inner shapes are inferred anew when it is run."""
    changed = model.ir.clone()
    inputs = [v for v in changed.graph.inputs if v.name not in changed.graph.initializers]
    if len(inputs) != 1:
        raise LineupError(f"shape needs a model with one input: {model.name} has {len(inputs)}")
    inputs[0].shape = ir.Shape(shape)
    _forget_shapes(changed)
    return _changed(model, changed, f"input shape changed to {'x'.join(map(str, shape))}")


def with_partial_windows(model: OnnxModel) -> OnnxModel:
    """The same network whose MaxPools also cover a last, partial window, as Caffe and Core ML's includeLastPixel do.

    MaxPool(kernel 3, stride 2) over 56 -> 27 becomes -> 28: stride - 1 more padding at the end makes exactly the windows
    that rounding up makes, in every opset, because padding never wins a maximum.
    """
    changed = model.ir.clone()
    pools = [node for node in changed.graph.all_nodes() if node.op_type == "MaxPool"]
    for node in pools:
        # pads stand as [begin of each axis..., end of each axis...]
        kernel = node.attributes.get_ints("kernel_shape", ())
        strides = node.attributes.get_ints("strides", [1] * len(kernel))
        pads = list(node.attributes.get_ints("pads", [0] * 2 * len(kernel)))
        # what is beyond a whole number of steps is at most a stride less one long
        pads[len(kernel) :] = [end + stride - 1 for end, stride in zip(pads[len(kernel) :], strides, strict=True)]
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    _forget_shapes(changed)
    return _changed(model, changed, f"{len(pools)} MaxPools cover a last, partial window")


def _changed(model: OnnxModel, graph: ir.Model, note: str) -> OnnxModel:
    """A changed copy of a model, which says so."""
    notes = (*model.notes, note)
    return OnnxModel(graph, name=model.name, notes=notes, feeding=model.feeding, labels=model.labels)


def _forget_shapes(model: ir.Model) -> None:
    for node in model.graph.all_nodes():  # those of bodies too
        for value in node.outputs:
            value.shape = None


_SAME_WEIGHTS = 0.99


def with_weights_of(model: OnnxModel, other: Model) -> OnnxModel:
    """The same network with the weights of another that was trained the same way and stored differently.

    Each weight is replaced by the other's tensor of the same shape that is most like it; the least alike pair must
    still have a cosine of 0.99, else they are not the same weights and the result would mean nothing.
    """
    donor = convert(other, "onnx")
    assert isinstance(donor, OnnxModel)
    offered = _weights(donor.ir)
    changed = model.ir.clone()
    wanted = _weights(changed)
    for name, own in wanted.items():
        # by size, not shape: Conv and Gemm store one kernel as [o, i, 1, 1] or [o, i]
        likeness = {key: _cosine(own, array) for key, array in offered.items() if array.size == own.size}
        # names differ between exports, and sizes repeat: the numbers tell
        best = max(likeness, key=lambda key: likeness[key], default=None)
        if best is None or likeness[best] < _SAME_WEIGHTS:
            raise LineupError(
                f"{other.name} does not hold the weights of {model.name}",
                where=f"weight {name!r}",
                expected=f"a tensor of {own.size} numbers with a cosine of at least {_SAME_WEIGHTS}",
                found="none of that size" if best is None else f"at best {likeness[best]:.4f}",
            )
        value = changed.graph.initializers[name]
        # taken out, so that no tensor serves for two
        value.const_value = ir.Tensor(offered.pop(best).reshape(own.shape).astype(own.dtype), name=name)
    return _changed(model, changed, f"weights of {other.name} ({len(wanted)} tensors)")


def _weights(model: ir.Model) -> dict[str, np.ndarray]:
    tensors = {name: v.const_value for name, v in model.graph.initializers.items() if v.const_value is not None}
    arrays = {name: np.asarray(tensor.numpy()) for name, tensor in tensors.items()}
    return {name: array for name, array in arrays.items() if array.dtype.kind == "f" and array.size > 1}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / scale if scale else 0.0
