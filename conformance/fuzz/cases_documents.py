"""Healthy files around the models: saved runs, inputs, edit scripts, line-ups, device.json, stores, photos, labels, .pt2."""

from __future__ import annotations

import base64
import io
import json
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conformance.fuzz.cases_coreml import mlmodel_cases
from conformance.fuzz.cases_onnx import onnx_cases
from conformance.fuzz.cases_program import mlpackage_cases
from conformance.fuzz.damage_document import toml
from conformance.fuzz.files import Case, read, write

LABELS = ("ant", "bee", "cat", "dog")


def _model(cases: Sequence[Case], name: str) -> Case:
    return next(case for case in cases if case.name == name)


def recording_cases() -> list[Case]:
    """Saved runs, as ``coreproof verify --save`` writes them; the model that was recorded lies beside each."""
    import coreproof as cp

    made = []
    for cases, name, weight in ((onnx_cases(), "net", 2), (onnx_cases(), "branch", 1), (mlmodel_cases(), "classifier", 1),
                                (mlpackage_cases(), "half", 1)):  # fmt: skip
        case = _model(cases, name)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write(case.files, folder)
            cp.record(cp.load(folder / case.main), folder / "run.npz")
            made.append(Case(name, {**case.files, "run.npz": (folder / "run.npz").read_bytes()}, "run.npz", weight))
    return made


def inputs_cases() -> list[Case]:
    """Arrays that ``verify --inputs`` feeds."""
    rng = np.random.RandomState(0)
    one = {"x": rng.randn(1, 3, 8, 8).astype(np.float32)}
    several = {f"x/{n}": rng.randn(1, 3, 8, 8).astype(np.float32) for n in range(3)}
    return [
        Case(name, {"inputs.npz": _npz(arrays)}, "inputs.npz") for name, arrays in (("one", one), ("several", several))
    ]


def folder_cases() -> list[Case]:
    """Folders of the inputs of a model: arrays of every kind of file, a folder a sample; and sounds and texts for others."""
    rng = np.random.RandomState(0)
    x = rng.randn(1, 3, 8, 8).astype(np.float32)
    several = io.BytesIO()
    np.save(several, np.stack([x, x]))
    sound = b"".join(
        [b"RIFF", struct.pack("<I", 36 + 64), b"WAVEfmt ", struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16),
         b"data", struct.pack("<I", 64), rng.randint(-3000, 3000, 32).astype("<i2").tobytes()]
    )  # fmt: skip
    tokens = json.dumps(
        [{"input_ids": [1, 2, 3], "attention_mask": [1, 1, 0]}, {"input_ids": [4, 0, 2], "attention_mask": [1, 1, 1]}]
    ).encode()
    arrays = {"all/a.npz": _npz({"x": x}), "all/b.npy": several.getvalue(), "all/c/x.npy": _npy(x)}
    return [
        Case("arrays", arrays, "all", 2),
        Case("sounds", {"all/a.wav": sound, "all/b.npz": _npz({"input": np.zeros((1, 32), np.float32)})}, "all", 2),
        Case("tokens", {"all/a.json": tokens, "all/b.txt": b"1 2 3\n4 0 2\n"}, "all", 2),
    ]


def _npy(array: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def _npz(arrays: Mapping[str, Any]) -> bytes:
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def edits_cases() -> list[Case]:
    """Scripts of edits, each beside the model that it is for."""
    made = []
    for cases, name, scripts in (
        (onnx_cases(), "net", _ONNX_EDITS),
        (mlmodel_cases(), "network", _NETWORK_EDITS),
        (mlmodel_cases(), "classifier", _CLASSIFIER_EDITS),
        (mlpackage_cases(), "half", _PROGRAM_EDITS),
        (mlpackage_cases(), "classifier", _PROGRAM_CLASSIFIER_EDITS),
    ):
        case = _model(cases, name)
        beside = {
            "arrays.npz": _npz({"w": np.ones((4, 3, 3, 3), np.float32)}),
            "labels.txt": "\n".join(LABELS[:3]).encode(),
        }
        for number, script in enumerate(scripts):
            files = {**case.files, "edits.toml": toml({"edit": script}).encode()}
            if any(
                isinstance(v, dict | str) and ("npz" in v or v == "labels.txt")
                for edit in script
                for v in edit.values()
            ):
                files |= beside
            made.append(Case(f"{name} {number}: {script[0]['verb']}", files, "edits.toml"))
    return made


_ARRAY = {"npz": "arrays.npz", "key": "w"}
_ONNX_EDITS: list[list[dict[str, Any]]] = [
    [{"verb": "delete", "layer": "relu"}],
    [{"verb": "connect", "source": "n", "to": "pool", "input": 0}],
    [{"verb": "insert", "operator": "Relu", "name": "new", "after": "pool", "inputs": ["p"], "output": "q"}],
    [{"verb": "replace", "layer": "relu", "operator": "LeakyRelu", "alpha": 0.1}],
    [{"verb": "rename", "old": "conv", "new": "first"}, {"verb": "rename", "old": "c", "new": "d"}],
    [{"verb": "set", "layer": "conv", "attribute": "pads", "value": [0, 0, 0, 0]}],
    [{"verb": "set", "layer": "conv", "attribute": "w", "value": _ARRAY}],
    [{"verb": "extract", "inputs": ["c"], "outputs": ["p"]}],
    [{"verb": "reshape", "feature": "x", "shape": [1, 3, 16, 16]}],
    [{"verb": "batch", "input": "x", "length": 4}],
    [{"verb": "declare", "output": "y"}],
    [{"verb": "constant", "name": "k", "operator": "Constant", "value": [1.0, 2.0]}],
    [{"verb": "divide", "value": "r", "layer": "relu", "new": "r2"}],
    [{"verb": "retype", "feature": "x", "dtype": "float16"}],
    [{"verb": "relabel", "labels": ["a", "b"]}],
    [{"verb": "widen", "layers": ["conv"]}],
]
_NETWORK_EDITS: list[list[dict[str, Any]]] = [
    [{"verb": "delete", "layer": "activation a"}],
    [{"verb": "connect", "source": "n", "to": "pooling p"}],
    [{"verb": "insert", "operator": "activation", "name": "new", "after": "batchnorm n", "kind": "ReLU"}],
    [{"verb": "replace", "layer": "activation a", "operator": "softmax"}],
    [{"verb": "rename", "old": "convolution c", "new": "first"}],
    [{"verb": "set", "layer": "convolution c", "attribute": "weights", "value": _ARRAY}],
    [{"verb": "set", "layer": "pooling p", "attribute": "kernelSize", "value": [3, 3]}],
    [{"verb": "set", "layer": "batchnorm n", "attribute": "epsilon", "value": 0.001}],
    [{"verb": "extract", "inputs": ["c"], "outputs": ["p"]}],
    [{"verb": "reshape", "feature": "x", "shape": [3, 8, 8], "enumerated": [[3, 8, 8], [3, 10, 10]]}],
    [{"verb": "reshape", "feature": "x", "ranges": [[3, 3], [6, 12], [6, -1]]}],
    [{"verb": "retype", "feature": "x", "kind": "image", "colour": "BGR", "scale": 0.1, "bias": [1.0, 2.0, 3.0]}],
    [{"verb": "respecify", "version": 4}, {"verb": "declare", "output": "i"}],
    [{"verb": "divide", "value": "a", "layer": "activation a", "new": "a2"}],
]
_CLASSIFIER_EDITS: list[list[dict[str, Any]]] = [
    [{"verb": "relabel", "labels": "labels.txt"}],
    [{"verb": "relabel", "labels": [3, 1, 2, 0]}],
    [{"verb": "scores", "value": "i"}],
    [{"verb": "preprocess", "input": "picture", "old": "picture"}],
    [{"verb": "rename", "old": "picture", "new": "image"}],
    [{"verb": "retype", "feature": "picture", "kind": "array", "dtype": "float32"}],
]
_PROGRAM_EDITS: list[list[dict[str, Any]]] = [
    [{"verb": "delete", "layer": "r"}],
    [{"verb": "insert", "operator": "relu", "name": "new", "after": "m", "inputs": {"x": "m"}}],
    [{"verb": "replace", "layer": "r", "operator": "leaky_relu", "alpha": 0.5}],
    [{"verb": "rename", "old": "c", "new": "first"}],
    [{"verb": "set", "layer": "c", "attribute": "weight", "value": _ARRAY}],
    [{"verb": "set", "layer": "m", "attribute": "kernel_sizes", "value": [3, 3]}],
    [{"verb": "connect", "source": "c", "to": "m", "input": "x"}],
    [{"verb": "extract", "inputs": ["c"], "outputs": ["n"]}],
    [{"verb": "reshape", "feature": "x", "shape": [1, 3, 16, 16]}],
    [{"verb": "retype", "feature": "x", "kind": "image", "colour": "RGB", "scale": 0.0039, "bias": 0.5}],
    [{"verb": "retype", "feature": "y", "dtype": "float16"}],
    [{"verb": "widen", "layers": ["c", "n"]}],
    [{"verb": "widen", "layers": "c"}, {"verb": "declare", "output": "g"}],
]
_PROGRAM_CLASSIFIER_EDITS: list[list[dict[str, Any]]] = [
    [{"verb": "relabel", "labels": ["a", "b", "c"]}],
    [{"verb": "rename", "old": "picture", "new": "image"}],
    [{"verb": "retype", "feature": "picture", "kind": "array"}],
]

_FEED = {
    "size": [4, 4],
    "resize": "squash",
    "scale": 0.00392,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "colour": "RGB",
}


def lineup_cases() -> list[Case]:
    """Line-ups of two or more models, with all that an entry may say."""
    model = _model(onnx_cases(), "classifier").files["classifier.onnx"]
    files = {"a.onnx": model, "b.onnx": model, "labels.txt": "\n".join(LABELS).encode(), "truth.csv": _TRUTH}
    plain = {
        "title": "two",
        "feed": _FEED,
        "models": {"a": {"source": "a.onnx"}, "b": {"source": "b.onnx", "softmax": True}},
    }
    made = {
        "title": "made",
        "feed": {**_FEED, "interpolation": "bilinear", "layout": "NCHW"},
        "models": {
            "a": {"source": "a.onnx", "labels": "labels.txt", "note": "first", "engine": "onnxruntime"},
            "b": {"from": "a", "convert": "neuralnetwork", "image": True},
            "c": {"from": "a", "weights_from": "a", "feed": {"resize": "crop", "resize_to": 6}},
        },
        "photos": {"labels": "truth.csv"},
        "attribution": [{"between": ["a", "b"], "causes": {"the crop": "c"}}],
    }
    return [
        Case(name, {**files, "lineup.toml": toml(d).encode()}, "lineup.toml")
        for name, d in (("plain", plain), ("made", made))
    ]


def device_cases() -> list[Case]:
    """What an app exports of two processors."""
    rng = np.random.RandomState(0)
    scores = {f"p{n}.png": base64.b64encode(rng.rand(4).astype("<f4").tobytes()).decode() for n in range(3)}
    document = {
        "format": "coreproof device 1",
        "model": "net",
        "fingerprint": "0" * 32,
        "labels": list(LABELS),
        "device": {"machine": "iPhone15,2", "system": "iOS 17.4"},
        "runs": [{"processor": p, "milliseconds": 1.5, "scores": scores} for p in ("CPU", "Neural Engine")],
    }
    return [Case("device", {"device.json": json.dumps(document, indent=1).encode()}, "device.json")]


_TRUTH = b"file,class_index,synset,name\np0.png,0,n00000000,ant\np1.png,1,n00000001,bee\np2.png,2,n00000002,cat\n"


def photos() -> dict[str, bytes]:
    """Three photos and what they show."""
    from PIL import Image

    made = {}
    for n in range(3):
        stream = io.BytesIO()
        pixels = np.random.RandomState(n).randint(0, 255, (9, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(stream, "PNG")
        made[f"p{n}.png"] = stream.getvalue()
    return {**made, "labels.csv": _TRUTH}


def photo_cases() -> list[Case]:
    """Folders of one picture in each format and mode."""
    from PIL import Image

    pixels = np.random.RandomState(5).randint(0, 255, (9, 12, 3)).astype(np.uint8)
    base = Image.fromarray(pixels)
    made = {}
    for name, form, mode in (
        ("rgb.png", "PNG", "RGB"), ("grey.png", "PNG", "L"), ("palette.png", "PNG", "P"), ("alpha.png", "PNG", "RGBA"),
        ("deep.png", "PNG", "I;16"), ("one.jpg", "JPEG", "RGB"), ("cmyk.jpg", "JPEG", "CMYK"), ("one.bmp", "BMP", "RGB"),
        ("one.gif", "GIF", "P"), ("one.tif", "TIFF", "RGB"), ("one.webp", "WEBP", "RGB"), ("one.ppm", "PPM", "RGB"),
    ):  # fmt: skip
        stream = io.BytesIO()
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200) if mode == "I;16" else base.convert(mode)
        picture.save(stream, form)
        made[name] = stream.getvalue()
    return [Case(name, {name: content}, name) for name, content in made.items()]


def label_cases() -> list[Case]:
    """Labels as lines and as JSON, and what photos show as a table."""
    lines = "\n".join(LABELS).encode()
    return [
        Case("lines", {"labels.txt": lines}, "labels.txt"),
        Case("list", {"labels.json": json.dumps(LABELS).encode()}, "labels.json"),
        Case("numbers", {"labels.json": b"[3, 1, 2, 0]"}, "labels.json"),
        Case("table", {"labels.csv": _TRUTH}, "labels.csv", 2),
        Case(
            "numbered",
            {"labels.txt": "\n".join(f"{at}: {name}" for at, name in enumerate(LABELS)).encode()},
            "labels.txt",
        ),
        Case("dictionary", {"labels.json": json.dumps(dict(enumerate(LABELS))).encode()}, "labels.json"),
        Case(
            "columns",
            {"labels.csv": b"id,name\n" + b"".join(b"%d,%s\n" % (at, n.encode()) for at, n in enumerate(LABELS))},
            "labels.csv",
        ),
    ]


def store_cases() -> list[Case]:
    """A store of predictions, with the line-up and the photos that it belongs to."""
    import coreproof as cp
    from coreproof.comparison.lineup import load_lineup

    case = lineup_cases()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(case.files, folder)
        write(photos(), folder / "photos")
        cp.compare(load_lineup(folder / "lineup.toml"), folder / "photos", store=folder / "store", workers=1)
        files = read(folder)
    kept = {name: data for name, data in files.items() if not name.startswith(("store/timings", "store/.writing"))}
    keys = sorted(name.split("/")[-1].removesuffix(".json") for name in kept if name.startswith("store/models/"))
    for key in keys:
        kept[f"store/timings/{key}/0.json"] = b'{"seconds": 0.5, "photos": 3}'
    return [Case("store", {n: d for n, d in kept.items() if n.startswith("store/")}, "store")]


def script_cases() -> list[Case]:
    """TorchScript files, scripted with a branch and traced."""
    import warnings

    import torch
    from torch import nn

    class Branching(nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool(x.sum() > 0):
                return x * 2
            return x - 1

    class Plain(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).relu()  # type: ignore[no-any-return]

    torch.manual_seed(0)
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripts = {"scripted": torch.jit.script(Branching()), "traced": torch.jit.trace(Plain(), torch.ones(1, 4))}
        for name, script in scripts.items():
            held = io.BytesIO()
            torch.jit.save(script, held)
            made.append(Case(name, {f"{name}.ts": held.getvalue()}, f"{name}.ts"))
    return made


def program_cases() -> list[Case]:
    """Programs that torch.export saved: static, free and squared sizes."""
    import warnings

    import torch
    from torch import nn
    from torch.export import Dim, export, save

    class Squared(nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return x.reshape(x.shape[0] * x.shape[1], -1).relu()

    torch.manual_seed(0)
    modules = {
        "static": (nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)), (1, 3, 8, 8), None, 2),
        "free": (nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), (2, 4), ({0: Dim("n", min=1, max=64)},), 1),
        "squared": (Squared(), (3, 4, 5), ({0: Dim("a", min=2, max=8), 1: Dim("b", min=2, max=8)},), 1),
    }
    made = []
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (module, shape, free, weight) in modules.items():
            path = Path(scratch) / f"{name}.pt2"
            save(export(module.eval(), (torch.ones(shape),), dynamic_shapes=free), path)
            made.append(Case(name, {path.name: path.read_bytes()}, path.name, weight))
    return made
