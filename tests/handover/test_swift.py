"""The Swift sources: they parse, they read what is written for them, and their arithmetic is the verification's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import PIL
import pytest
import tree_sitter
import tree_sitter_swift
from PIL import Image, ImageOps

from coreproof.comparison.device import FORMAT, read_device
from coreproof.handover.app import app
from coreproof.handover.samples import encode
from coreproof.handover.screen import Boxes, Kind
from coreproof.handover.sources import package_sources, proof_tests, swift_sources
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import resize_and_crop

SOURCES = swift_sources()
WRITTEN = {
    **{f"{kind}/{name}": text for kind in get_args(Kind) for name, text in package_sources(kind).items()},
    **SOURCES,
    "ProofTests.swift": proof_tests("Flowers"),
}


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_the_swift_sources_parse(name: str) -> None:
    text = WRITTEN[name]
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    assert not parser.parse(text.encode()).root_node.has_error
    assert text.startswith(f"// {name.removesuffix('.swift').rpartition('/')[2]}: ") or name == "ProofApp.swift"
    assert max(map(len, text.splitlines())) <= 130


def test_the_screens_are_of_today() -> None:
    """Observation in place of Combine, no branch for a system that cannot open the app, a file beside the share sheet."""
    whole = "\n".join(SOURCES.values())
    for old in ("ObservableObject", "@Published", "@StateObject", "#available", "DispatchQueue.main"):
        assert old not in whole, old
    for name in ("Proof", "Trial", "Camera"):
        assert re.search(rf"@MainActor @Observable\nfinal class {name} \{{", whole)
    assert ".fileExporter(" in SOURCES["ProofScreen.swift"]
    assert "ShareLink(" in SOURCES["ProofScreen.swift"]
    assert "try await MLModel.load(" in SOURCES["Predictor.swift"]
    # detectors and models of pictures look through the camera too, and draw as the other screen does
    assert "plan.picture != nil, plan.kind != .array" in SOURCES["ProofApp.swift"]
    assert "ShotView(plan: plan, shot: shot)" in SOURCES["CameraScreen.swift"]


def properties(source: str, struct: str) -> dict[str, str]:
    """Stored properties of a struct with their types, nested types left out."""
    lines = source[re.search(rf"struct {struct}\b", source).start() :].splitlines()  # type: ignore[union-attr]
    found, depth = {}, 0
    for line in lines:
        declared = re.match(r"let (\w+)(?:: ([^=]+))?", line.strip())
        if depth == 1 and declared:
            found[declared[1]] = (declared[2] or "").strip()
        depth += line.count("{") - line.count("}")
        if depth == 0:
            break
    return found


def test_what_swift_reads_is_in_the_plan(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    """Each property of Plan.swift has its key in proof.json and each key its property; what may be null is optional."""
    plan = app(classifier, photos, tmp_path / "app").plan
    source = SOURCES["Plan.swift"]
    documents: dict[str, dict[str, Any]] = {
        "Plan": plan,
        "Picture": plan["picture"],
        "Sample": plan["samples"][0],
        "Boxes": Boxes("a", "b", False, False, False).__dict__,
        "Output": {"name": "", "shape": [], "isImage": False},
        "Values": {"name": "", "kind": "", "dtype": ""},
        "SampleInput": {"file": "", "shape": []},
    }
    for struct, document in documents.items():
        declared = properties(source, struct)
        assert set(declared) == set(document), struct
        for name, content in document.items():
            assert content is not None or declared[name].endswith("?"), f"{struct}.{name}"


def test_the_numbers_that_swift_knows_are_those_of_the_models() -> None:
    """Enumerations of Plan.swift name every kind that a plan can hold."""
    source = SOURCES["Plan.swift"]
    assert "enum Kind: String, Decodable, Sendable { case classifier, image, detector, array }" in source
    assert "enum Kind: String, Decodable, Sendable { case tensor, double, int64 }" in source
    assert 'case rgb = "RGB", bgr = "BGR", gray = "GRAY", grayHalf = "GRAY_FLOAT16"' in source


def test_what_swift_exports_is_read_back(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    """device.json with the names that Export.swift gives its properties, in the form in which JSONEncoder writes them."""
    plan = app(classifier, photos, tmp_path / "app").plan
    source = SOURCES["Export.swift"]
    version = re.search(r'static let version = "(.*)"', source)
    assert version is not None
    known: dict[str, Any] = {
        "format": version[1],
        "model": plan["model"],
        "fingerprint": plan["fingerprint"],
        "labels": plan["labels"],
        "name": "iPhone",
        "machine": "iPhone15,2",
        "system": "iOS 26.1",
        "milliseconds": 1.5,
        "scores": {sample["name"]: sample["scores"] for sample in plan["samples"]},
    }
    known["device"] = {name: known[name] for name in properties(source, "Device")}
    processors = re.findall(r'case \w+ = "(CPU.*)"', SOURCES["Predictor.swift"])
    assert processors == ["CPU", "CPU and GPU", "CPU and Neural Engine"]
    known["runs"] = [{n: {**known, "processor": p}[n] for n in properties(source, "Run")} for p in processors]
    document = {name: known[name] for name in properties(source, "Export")}
    file = tmp_path / "device.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    runs = read_device(file)
    assert version[1] == FORMAT
    assert [run.name for run in runs] == [f"iPhone15,2 {p}" for p in processors]
    for run in runs:
        assert run.fingerprint == plan["fingerprint"]
        for sample in plan["samples"]:
            assert encode(run.answers[sample["name"]]) == sample["scores"]


# The geometry, its expressions taken out of the Swift source. Where there is a compiler test_compiled.py runs the source itself.

GEOMETRY = SOURCES["Geometry.swift"]


@pytest.mark.parametrize("exif", range(1, 9))
def test_a_photo_is_turned_as_pillow_turns_it(exif: int) -> None:
    cases = dict(re.findall(r"case (\d): \(column, row\) = \((.+)\)$", GEOMETRY, re.M))
    assert sorted(cases) == list("2345678")
    column_of, row_of = cases.get(str(exif), "x, y").split(", ")
    stored = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    height, width = stored.shape[:2]
    w, h = (height, width) if exif >= 5 else (width, height)
    assert "let (w, h) = exif >= 5 ? (height, width) : (width, height)" in GEOMETRY
    turned = np.zeros((h, w, 3), np.uint8)
    for y in range(h):
        for x in range(w):
            names = {"x": x, "y": y, "right": width - 1, "bottom": height - 1}
            turned[y, x] = stored[eval(row_of, names), eval(column_of, names)]
    picture = Image.fromarray(stored)
    picture.getexif()[0x0112] = exif
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(picture)))


def swift(expression: str, **names: float) -> Any:
    """A Swift expression of numbers in Python's words."""
    words = re.sub(
        r"(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))\.rounded\(\.toNearestOrEven\)", r"round(\1)", expression
    )
    return eval(words, {"Int": int, "Double": float, "max": max, "min": min, "round": round}, dict(names))


def found(pattern: str) -> str:
    match = re.search(pattern, GEOMETRY, re.S)
    assert match is not None, pattern
    return " ".join(match[1].split())


def lengths(w: int, h: int, width: int, height: int, short: int | None) -> tuple[int, int, int, int]:
    """The size to which ``resize_and_crop`` of Geometry.swift scales a photo, and where it begins to cut."""
    if short is not None:
        long = swift(found(r"let long = ([^\n]+)"), w=w, h=h, short=short)
        scaled = (short, long) if w <= h else (long, short)
        assert "scaled = w <= h ? (short, long) : (long, short)" in GEOMETRY
    else:
        ratio = swift(found(r"let ratio = ([^\n]+)"), w=w, h=h, width=width, height=height)
        text = found(r"scaled = (\(max\(width.*?)\n        }")
        scaled = swift(text, w=w, h=h, width=width, height=height, ratio=ratio)
    left = swift(found(r"let left = ([^\n]+)").replace("scaled.width", "wide"), wide=scaled[0], width=width)
    top = swift(found(r"let top = ([^\n]+)").replace("scaled.height", "high"), high=scaled[1], height=height)
    return (*scaled, left, top)


@pytest.mark.parametrize("short", [None, 9, 20, 33])
@pytest.mark.parametrize("size", [(40, 30), (30, 41), (33, 33), (17, 90), (7, 5)])
def test_a_photo_is_cut_as_in_the_verification(size: tuple[int, int], short: int | None) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    feeding = Feeding(size=(16, 12), resize_to=short)
    wide, high, left, top = lengths(*size, *feeding.size, short)
    own = Image.fromarray(resample(np.asarray(picture), (wide, high))).crop((left, top, left + 16, top + 12))
    np.testing.assert_array_equal(np.asarray(own), np.asarray(resize_and_crop(picture, feeding)))


def resample(array: np.ndarray[Any, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """What Resample.swift does with the bilinear filter: fixed-point coefficients, 8 bits in between."""

    def coefficients(source: int, target: int) -> list[tuple[int, np.ndarray[Any, Any]]]:
        scale = source / target
        stretch = max(scale, 1.0)
        rows = []
        for position in range(target):
            centre = (position + 0.5) * scale
            low, high = max(0, int(centre - stretch + 0.5)), min(source, int(centre + stretch + 0.5))
            weights = np.maximum(0, 1 - np.abs((np.arange(low, high) - centre + 0.5) / stretch))
            weights = weights / weights.sum()
            rows.append((low, (weights * (1 << 22) + 0.5).astype(np.int64)))
        return rows

    def across(values: np.ndarray[Any, Any], target: int) -> np.ndarray[Any, Any]:
        sums = [
            (np.tensordot(weights, values[low : low + len(weights)].astype(np.int64), 1) + (1 << 21)) >> 22
            for low, weights in coefficients(len(values), target)
        ]
        return np.clip(np.stack(sums), 0, 255).astype(np.uint8)

    lost = array.shape[0] - size[1]
    assert "lost > 0 && lost > 2 * (raster.width - width)" in SOURCES["Resample.swift"]
    if PIL.__version__ >= "13" and lost > 0 and lost > 2 * (array.shape[1] - size[0]):
        return across(across(array, size[1]).swapaxes(0, 1), size[0]).swapaxes(0, 1)
    return across(across(array.swapaxes(0, 1), size[0]).swapaxes(0, 1), size[1])


@pytest.mark.parametrize("size", [(24, 31), (80, 90), (40, 13)])
def test_the_apps_resampling_is_pillows(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resample(picture, size), expected)
