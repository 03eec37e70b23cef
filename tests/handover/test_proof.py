"""The app's proof, run here: its own Swift code over a stand-in of Core ML that gives known answers, right and wrong ones.

What is stood in for (``apple/``): decoders of picture files, pixel buffers and arrays with padded rows, and a model that looks
its answers up by the bytes that it is fed. So each answer that is found says that the app fed what the verification fed.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.comparison.device import read_device
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.feeding.predict import feed
from coreproof.handover.app import App, app
from coreproof.handover.samples import encode
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.images import to_tensor
from tests.build import conv_relu_onnx
from tests.handover.conftest import HERE, compiled, stand_ins, write_sources

FRAMEWORKS = ("CoreGraphics", "CoreML", "UIKit", "UniformTypeIdentifiers", "SwiftUI")
SCREENLESS = (
    *("Plan", "Numbers", "Geometry", "Resample", "Boxes", "Export", "Arrays", "Picture", "Predictor", "Proof"),
    *("Resources", "Examine", "Device"),
)

Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def prover(swiftc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app's proof as a program."""
    folder = tmp_path_factory.mktemp("prover")
    write_sources(folder)
    for file in stand_ins(folder, FRAMEWORKS):
        module = ["-module-name", file.stem, "-emit-module-path", folder / f"{file.stem}.swiftmodule"]
        options = ["-emit-module", *module, "-c", "-O", "-parse-as-library", "-I", folder]
        compiled(swiftc, *options, file, "-o", folder / f"{file.stem}.o")
    parts = [*(folder / f"{name}.swift" for name in SCREENLESS), HERE / "proof" / "main.swift", *folder.glob("*.o")]
    compiled(swiftc, "-O", "-static-stdlib", "-swift-version", "6", "-I", folder, *parts, "-o", folder / "prover")
    return folder / "prover"


def weighed(data: bytes) -> int:
    """What ``MLFeatureValue.sum`` of the stand-in gives for these bytes."""
    values = np.frombuffer(data, np.uint8).astype(np.uint64)
    return int((values * np.arange(1, len(values) + 1, dtype=np.uint64)).sum())


def fed(
    model: CoreMLModel, seen: Image.Image | None, inputs: dict[str, Any], feeding: Feeding | None
) -> dict[str, int]:
    """The weight of each input as the app has to feed it."""
    sums = {name: weighed(np.ascontiguousarray(value).tobytes()) for name, value in inputs.items()}
    if seen is None:
        return sums
    feature = model.signature.inputs[0]
    if feature.image is None:
        assert feeding is not None
        return {feature.name: weighed(to_tensor(seen, feeding).astype(feature.dtype).tobytes())}
    if feature.image.colour == "GRAY":
        return {feature.name: weighed(np.asarray(seen.convert("L")).tobytes())}
    rgb = np.asarray(seen)
    return {feature.name: weighed(np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 255, np.uint8)]).tobytes())}


def stored(name: str, value: Any) -> dict[str, Any]:
    """One output as the stand-in reads it."""
    if isinstance(value, dict):
        kind = "words" if isinstance(next(iter(value)), str) else "integers"
        numbers = [float(v) for v in value.values()]
        return {"name": name, "kind": kind, "shape": [], "numbers": numbers, "labels": [str(k) for k in value]}
    if isinstance(value, Image.Image):
        colours = value.mode == "RGB"
        pixels = np.asarray(value if colours else value.convert("L"))
        kind = "colours" if colours else "gray"
        return {"name": name, "kind": kind, "shape": pixels.shape, "numbers": pixels.ravel().tolist(), "labels": []}
    array = np.asarray(value, np.float64)
    return {"name": name, "kind": "array", "shape": array.shape, "numbers": array.ravel().tolist(), "labels": []}


def prove(
    prover: Path, made: App, model: CoreMLModel, change: Change = dict, feeding: Feeding | None = None
) -> dict[str, Any]:
    """What the proof screen shows where the device answers what coreproof answered, after ``change``."""
    inner = made.folder / made.plan["model"]
    for file in inner.glob("Samples/*"):
        if file.suffix in (".png", ".jpg"):
            raw(file)
    known = []
    with cp.session(model) as running:
        for sample in made.plan["samples"]:
            values = {
                name: np.frombuffer((inner / given["file"]).read_bytes(), "<f4").reshape(given["shape"])
                for name, given in sample["inputs"].items()
            }
            seen = Image.open(inner / sample["seen"]) if sample["seen"] else None
            inputs = values if seen is None else feed(model, seen, feeding)
            outputs = {n: v for n, v in running.run(inputs).items() if not isinstance(v, str | int)}
            answers = [stored(name, value) for name, value in change(outputs).items()]
            known.append({"sums": fed(model, seen, values, feeding), "outputs": answers})
    (inner / "answers.json").write_text(json.dumps(known))
    if not (inner / "prover").exists():
        os.link(prover, inner / "prover")
    done = subprocess.run([inner / "prover"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    assert [r["processor"] for r in shown["results"]] == ["CPU", "CPU and GPU", "CPU and Neural Engine"], shown[
        "problems"
    ]
    assert shown["problems"] == []
    return shown


def raw(file: Path) -> None:
    """The picture as the stand-in's decoder leaves it: not yet turned."""
    with Image.open(file) as picture:
        exif = picture.getexif().get(0x0112, 1)
        gray = picture.mode == "L"
        pixels = np.asarray(picture if gray else picture.convert("RGBA"))
    header = struct.pack("<4I", pixels.shape[1], pixels.shape[0], 1 if gray else 4, exif)
    file.with_name(file.name + ".raw").write_bytes(header + pixels.tobytes())


@pytest.fixture
def turned(photos: Path, tmp_path: Path) -> Path:
    """Photos that lie on their side, one gray."""
    folder = tmp_path / "turned"
    folder.mkdir()
    for exif in (1, 3, 6, 8):
        picture = Image.open(photos / "photo 1.png").convert("L" if exif == 3 else "RGB")
        tag = Image.Exif()
        tag[0x0112] = exif
        picture.resize((70, 90)).save(folder / f"{exif}.jpg", exif=tag, quality=95)
    return folder


def test_a_classifier(prover: Path, classifier: CoreMLModel, turned: Path, tmp_path: Path) -> None:
    feeding = Feeding(size=(16, 16), resize_to=20)
    made = app(classifier, turned, tmp_path / "app", feeding=feeding)
    shown = prove(prover, made, classifier)
    for result in shown["results"]:
        assert (result["agreeing"], result["samples"], result["troubles"]) == (4, 4, [])
        assert result["largest"] < 1e-6
    # the app turns, scales and cuts the photos themselves as the verification did
    assert shown["cuts"] == [0, 0, 0, 0]
    (tmp_path / "device.json").write_text(shown["exported"], encoding="utf-8")
    for run in read_device(tmp_path / "device.json"):
        assert run.fingerprint == made.plan["fingerprint"]
        for sample in made.plan["samples"]:
            assert encode(run.answers[sample["name"]]) == sample["scores"]


def test_a_wrong_classifier_is_seen(prover: Path, classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")

    def backwards(outputs: dict[str, Any]) -> dict[str, Any]:
        (name, named), *_ = ((n, v) for n, v in outputs.items() if isinstance(v, dict))
        return {name: dict(zip(named, reversed(named.values()), strict=True))}

    for result in prove(prover, made, classifier, backwards)["results"]:
        assert result["agreeing"] < result["samples"]
        assert len(result["troubles"]) == result["samples"] - result["agreeing"]
        assert "expected class" in result["troubles"][0]
        assert result["largest"] > 0.01


def test_a_gray_classifier_with_numbers_for_labels(prover: Path, shared_data: Path, tmp_path: Path) -> None:
    model = cp.load(shared_data / "coreml" / "dhruvweaver_DrawMNIST_final.mlpackage")
    assert isinstance(model, CoreMLModel)
    made = app(model, shared_data / "photos", tmp_path / "app", limit=3)
    for result in prove(prover, made, model)["results"]:
        assert (result["agreeing"], result["samples"]) == (3, 3)


def test_a_picture_that_comes_out(prover: Path, shared_data: Path, tmp_path: Path) -> None:
    model = cp.load(shared_data / "coreml" / "packt_small_unet.mlmodel")
    assert isinstance(model, CoreMLModel)
    made = app(model, shared_data / "photos", tmp_path / "app", limit=2)
    for result in prove(prover, made, model)["results"]:
        assert (result["largest"], result["typical"], result["troubles"]) == (0, 0, [])

    def brighter(outputs: dict[str, Any]) -> dict[str, Any]:
        return {name: value.point(lambda level: min(255, level + 9)) for name, value in outputs.items()}

    assert all(r["largest"] == 9 for r in prove(prover, made, model, brighter)["results"])
    # an answer that is not there is no agreement
    for result in prove(prover, made, model, lambda outputs: {})["results"]:
        assert [t.endswith("0 values, expected 602112") for t in result["troubles"]] == [True, True]


def test_a_picture_in_colour_that_comes_out(prover: Path, shared_data: Path, tmp_path: Path) -> None:
    """The expected picture is replaced by a coloured one, which the device gives as BGRA."""
    model = cp.load(shared_data / "coreml" / "packt_small_unet.mlmodel")
    assert isinstance(model, CoreMLModel)
    made = app(model, shared_data / "photos", tmp_path / "app", limit=1)
    expected = next(made.folder.glob("*/Samples/*.out.png"))
    colours = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    Image.fromarray(colours).save(expected)
    swapped = int(np.abs(colours - colours[..., ::-1].astype(int)).max())
    for order, largest in ((slice(None), 0), (slice(None, None, -1), swapped)):
        answer = Image.fromarray(np.ascontiguousarray(colours[..., order]))
        shown = prove(prover, made, model, lambda outputs, answer=answer: {"output": answer})  # type: ignore[misc]
        assert [r["largest"] for r in shown["results"]] == [largest] * 3


def test_arrays_in_and_out(prover: Path, tmp_path: Path) -> None:
    model = cp.convert(OnnxModel(conv_relu_onnx(), name="arrays"), "mlprogram", precision="fp32")
    assert isinstance(model, CoreMLModel)
    shape = [int(d) for d in model.signature.inputs[0].shape or ()]  # type: ignore[call-overload]
    rng = np.random.default_rng(0)
    made = app(
        model, None, tmp_path / "app", inputs=[{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(2)]
    )
    for result in prove(prover, made, model)["results"]:
        assert (result["largest"], result["troubles"]) == (0, [])

    def doubled(outputs: dict[str, Any]) -> dict[str, Any]:
        return {name: 2 * value for name, value in outputs.items()}

    assert all(r["typical"] == pytest.approx(1, rel=1e-5) for r in prove(prover, made, model, doubled)["results"])


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_numbers_of_a_picture(prover: Path, photos: Path, tmp_path: Path, colour: Any) -> None:
    model = cp.convert(OnnxModel(conv_relu_onnx(), name="arrays"), "mlprogram", precision="fp32")
    assert isinstance(model, CoreMLModel)
    shape = [int(d) for d in model.signature.inputs[0].shape or ()]  # type: ignore[call-overload]
    feeding = Feeding(
        size=(shape[3], shape[2]), colour=colour, scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    made = app(model, photos, tmp_path / "app", feeding=feeding)
    assert all(r["largest"] == 0 for r in prove(prover, made, model, feeding=feeding)["results"])


def test_a_picture_in_and_numbers_out(prover: Path, photos: Path, tmp_path: Path) -> None:
    model = cp.convert(OnnxModel(conv_relu_onnx(), name="net"), "mlprogram", images={"x": ImageInput()})
    assert isinstance(model, CoreMLModel)
    made = app(model, photos, tmp_path / "app")
    assert all(r["troubles"] == [] and r["largest"] == 0 for r in prove(prover, made, model)["results"])
