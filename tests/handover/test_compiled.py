"""The Swift sources under a real compiler, where there is one: they type-check, and their arithmetic runs here.

Apple's frameworks are stood in for by ``apple/``: what the app uses of them. COREPROOF_SWIFTC names a compiler that is not in
the path.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps

from coreproof.comparison.device import read_device
from coreproof.handover.app import app
from coreproof.handover.samples import decode, encode
from coreproof.handover.screen import Boxes, Kind
from coreproof.handover.sources import package_sources
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import resize_and_crop, to_tensor
from tests.handover.conftest import HERE, compiled, stand_ins, write_sources

FRAMEWORKS = ("CoreGraphics", "CoreML", "UIKit", "AVFoundation", "UniformTypeIdentifiers", "SwiftUI", "PhotosUI")
PURE = ("Plan", "Numbers", "Geometry", "Resample", "Boxes", "Planes", "Export", "Resources")

TALL_FIRST = int(PIL.__version__.partition(".")[0]) >= 13

Ask = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swift")
    write_sources(folder)
    return folder


@pytest.fixture(scope="session")
def frameworks(swiftc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    for file in stand_ins(folder, FRAMEWORKS):
        module = folder / f"{file.stem}.swiftmodule"
        compiled(
            swiftc, "-emit-module", "-parse-as-library", "-module-name", file.stem, file, "-I", folder, "-o", module
        )
    return folder


def type_checked(swiftc: str, frameworks: Path, module: str, files: list[Path]) -> None:
    """Fails for what a compiler in Swift 6's mode refuses or warns of."""
    options = ["-typecheck", "-parse-as-library", "-module-name", module, "-I", frameworks, "-swift-version", "6"]
    said = compiled(swiftc, *options, *files)
    assert "warning:" not in said, said


def test_the_app_type_checks(swiftc: str, frameworks: Path, sources: Path) -> None:
    type_checked(swiftc, frameworks, "AppModule", sorted(sources.glob("*.swift")))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_packages_type_check(kind: Kind, swiftc: str, frameworks: Path, tmp_path: Path) -> None:
    for name, text in package_sources(kind).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    # what the package manager adds to a target with resources
    (tmp_path / "accessor.swift").write_text(
        "import Foundation\nextension Foundation.Bundle { static var module: Bundle { .main } }\n"
    )
    type_checked(swiftc, frameworks, "Flowers", sorted(tmp_path.glob("*.swift")))


@pytest.fixture(scope="session")
def ask(swiftc: str, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """The parts of the app that need no framework, as a program that answers questions."""
    folder = tmp_path_factory.mktemp("runner")
    linked = [] if sys.platform == "darwin" else ["-static-stdlib"]
    files = [*(sources / f"{name}.swift" for name in PURE), HERE / "runner" / "main.swift"]
    compiled(swiftc, "-O", *linked, "-swift-version", "6", *files, "-o", folder / "runner")

    def run(*questions: dict[str, Any]) -> list[dict[str, str]]:
        (folder / "questions.json").write_text(json.dumps(questions))
        subprocess.run([folder / "runner", folder / "questions.json", folder / "answers.json"], check=True, timeout=100)
        answers: list[dict[str, str]] = json.loads((folder / "answers.json").read_text())
        return answers

    return run


def picture_plan(feeding: Feeding) -> dict[str, Any]:
    """Plan.Picture for this feeding."""
    width, height = feeding.size
    return {
        "name": "x", "isImage": False, "shape": [1, 3, height, width], "dtype": "float32", "colour": feeding.colour,
        "width": width, "height": height, "squash": feeding.resize == "squash", "resizeTo": feeding.resize_to,
        "interpolation": feeding.interpolation, "tallFirst": TALL_FIRST,
        "scale": feeding.scale, "mean": list(feeding.mean),
        "std": list(feeding.std), "channelsLast": feeding.layout == "NHWC",
    }  # fmt: skip


def question(stored: np.ndarray[Any, Any], feeding: Feeding, exif: int = 1) -> dict[str, Any]:
    """A photo as a decoder leaves it, [height, width, bytes of a pixel]."""
    height, width, count = stored.shape
    pixels = base64.b64encode(stored.tobytes()).decode()
    given = {"width": width, "height": height, "bytes": count, "exif": exif, "pixels": pixels}
    return {"ask": "fit", "picture": picture_plan(feeding), **given}


def seen_by(answer: dict[str, str], feeding: Feeding) -> np.ndarray[Any, Any]:
    width, height = feeding.size
    return np.frombuffer(base64.b64decode(answer["seen"]), np.uint8).reshape(height, width, 3)


def random_photo(width: int, height: int, channels: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(width).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("exif", range(1, 9))
def test_orientation(ask: Ask, exif: int) -> None:
    stored, feeding = random_photo(41, 29), Feeding(size=(16, 12), resize_to=20)
    picture = Image.fromarray(stored[..., :3])
    picture.getexif()[0x0112] = exif
    expected = np.asarray(resize_and_crop(ImageOps.exif_transpose(picture), feeding))
    np.testing.assert_array_equal(seen_by(ask(question(stored, feeding, exif))[0], feeding), expected)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("resize_to", [None, 8, 21, 64])
def test_crop_and_scale(ask: Ask, interpolation: Any, resize_to: int | None) -> None:
    feedings = [
        Feeding(size=size, resize_to=resize_to, interpolation=interpolation, resize=how)
        for size in ((16, 12), (9, 20), (33, 33))
        for how in ("crop", "squash")
    ]
    photos = [random_photo(*size) for size in ((40, 30), (31, 77), (33, 33), (5, 7), (200, 11))]
    pairs = [(stored, feeding) for stored in photos for feeding in feedings]
    answers = ask(*(question(stored, feeding) for stored, feeding in pairs))
    for (stored, feeding), answer in zip(pairs, answers, strict=True):
        expected = np.asarray(resize_and_crop(Image.fromarray(stored[..., :3]), feeding))
        np.testing.assert_array_equal(seen_by(answer, feeding), expected, err_msg=f"{stored.shape} {feeding}")


@pytest.mark.parametrize("colour", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_numbers(ask: Ask, colour: Any, layout: Any) -> None:
    stored = random_photo(40, 30)
    for mean, std, scale in (((0.0,), (1.0,), 1.0), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255)):
        count = 1 if colour == "GRAY" else 3
        feeding = Feeding(size=(16, 12), colour=colour, layout=layout, mean=mean[:count], std=std[:count], scale=scale)
        answer = ask(question(stored, feeding))[0]
        expected = to_tensor(Image.fromarray(stored[..., :3]), feeding).reshape(-1)
        np.testing.assert_array_equal(decode(answer["numbers"]), expected)


def test_a_gray_photo(ask: Ask) -> None:
    stored, feeding = random_photo(40, 30, 1), Feeding(size=(16, 12))
    expected = np.asarray(resize_and_crop(Image.fromarray(stored[..., 0]).convert("RGB"), feeding))
    np.testing.assert_array_equal(seen_by(ask(question(stored, feeding))[0], feeding), expected)


def test_twelve_megapixels_take_little_time(ask: Ask) -> None:
    answer = ask(question(random_photo(4032, 3024), Feeding(resize_to=256), exif=6))[0]
    assert float(answer["seconds"]) < 3


def test_halves(ask: Ask) -> None:
    halves = np.arange(65536, dtype=np.uint16)
    rng = np.random.default_rng(0)
    tried = np.float32([0, 1, 65504, 65519, 65520, 1e9, 6e-8, 2.9e-8, 3e-8, -2.5, 0.1, np.inf])
    wide = (rng.normal(size=4000) * 10.0 ** rng.uniform(-9, 5, 4000)).astype(np.float32)
    values = np.concatenate([tried, wide])
    answer = ask({"ask": "half", "values": encode(values)})[0]
    np.testing.assert_array_equal(decode(answer["floats"]), halves.view(np.float16).astype(np.float32))
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(decode(answer["bits"]).astype(np.uint16), expected)


def test_softmax_and_differences(ask: Ask) -> None:
    values = np.float32([1, 2, 3, -4])
    scores = decode(ask({"ask": "softmax", "values": encode(values)})[0]["scores"])
    np.testing.assert_allclose(scores, np.exp(values) / np.exp(values).sum(), rtol=1e-6)
    off = {"ask": "difference", "values": encode([1, 2.5, np.nan]), "expected": encode([1, 2, np.nan])}
    short = {"ask": "difference", "values": encode([1]), "expected": encode([1, 2])}
    lost = {"ask": "difference", "values": encode([1, np.nan]), "expected": encode([1, 2])}
    first, second, third = ask(off, short, lost)
    assert (first["fits"], first["largest"]) == ("true", "0.5")
    assert float(first["typical"]) == pytest.approx(np.sqrt(0.25 / 5))
    assert second["fits"] == "false"
    assert (third["typical"], third["largest"]) == ("inf", "inf")


def test_classes_that_share_a_label(ask: Ask) -> None:
    """Core ML gives one number for "crane"; it goes to the crane that coreproof finds likelier."""
    labels = ["crane", "fox", "crane"]
    named = {"crane": 0.7, "fox": 0.3}
    expected = [0.1, 0.3, 0.6]
    known, unknown = ask(
        {"ask": "classes", "labels": labels, "named": named, "expected": encode(expected)},
        {"ask": "classes", "labels": labels, "named": named},
    )
    np.testing.assert_allclose(decode(known["scores"]), [0, 0.3, 0.7])
    np.testing.assert_allclose(decode(known["telling"]), [0, 0.3, 0.6])
    np.testing.assert_allclose(decode(known["whole"]), [0, 1 / 3, 2 / 3], rtol=1e-6)
    likely = np.exp([0.3, 0.7]) / np.exp([0.3, 0.7]).sum()
    np.testing.assert_allclose(decode(known["softmax"]), [0, *likely], rtol=1e-6)
    np.testing.assert_allclose(decode(unknown["scores"]), [0.7, 0.3, 0])


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0, 0.2, 1, 0.6], [0, 51, 255, 153]),  # from 0 to 1
        ([0, 51, 255, 153], [0, 51, 255, 153]),  # from 0 to 255
        ([-1, 0, 1, np.nan], [0, 128, 255, 0]),  # what there is
        ([10, 10, 12, 14], [0, 0, 128, 255]),
    ],
)
def test_numbers_that_are_a_picture(ask: Ask, values: list[float], levels: list[int]) -> None:
    seen = base64.b64decode(ask({"ask": "planes", "values": encode(values)})[0]["seen"])
    assert list(seen) == [level for level in levels for _ in range(3)]


def test_three_planes_are_colours(ask: Ask) -> None:
    planes = np.arange(12) * 20
    seen = base64.b64decode(ask({"ask": "planes", "values": encode(planes)})[0]["seen"])
    np.testing.assert_array_equal(np.frombuffer(seen, np.uint8).reshape(4, 3), planes.reshape(3, 4).T)
    assert ask({"ask": "planes", "values": encode([1, 1, 1, 1])})[0]["seen"] == "nothing"


def test_boxes(ask: Ask) -> None:
    rows = [[0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9], [0, 0, 1, 1]]
    scores = [[0.1, 0.8], [0.1, 0.9], [0.7, 0.1], [0.1, 0.2]]
    corners = np.float32(rows)
    centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    forms = [
        (corners, Boxes("b", "s", False, False, False)),
        (centred, Boxes("b", "s", True, False, False)),
        (corners * [[200, 100, 200, 100]], Boxes("b", "s", False, True, False)),
    ]
    for given, reading in forms:
        outputs = {"b": encode(given), "s": encode(scores)}
        answer = ask({"ask": "boxes", "boxes": asdict(reading), "outputs": outputs, "width": 200, "height": 100})[0]
        found = decode(answer["boxes"]).reshape(-1, 6)
        np.testing.assert_allclose(found[:, :4], [rows[1], rows[2]], atol=1e-6)
        np.testing.assert_allclose(found[:, 4:], [[1, 0.9], [0, 0.7]], atol=1e-6)
    behind = asdict(Boxes("b", "s", False, False, True))
    outputs = {"b": encode(corners), "s": encode(scores)}
    answer = ask({"ask": "boxes", "boxes": behind, "outputs": outputs, "width": 200, "height": 100})[0]
    np.testing.assert_allclose(decode(answer["boxes"]).reshape(-1, 6)[:, 4:], [[0, 0.9]], atol=1e-6)


def test_the_plan_is_decoded_and_the_export_read_back(
    ask: Ask, classifier: CoreMLModel, photos: Path, tmp_path: Path
) -> None:
    made = app(classifier, photos, tmp_path / "app", title='Grüße "an" \\(x) 🚂')
    plan = made.plan
    stored = next(made.folder.glob("*/proof.json")).read_bytes()
    scores = {sample["name"]: sample["scores"] for sample in plan["samples"]}
    runs = [{"processor": p, "milliseconds": 1.25, "scores": scores} for p in ("CPU", "CPU and GPU")]
    export = {n: plan[n] for n in ("model", "fingerprint", "labels")}
    export |= {"name": "iPhone", "machine": "iPhone15,2", "system": "iOS 26.1", "runs": runs}
    decoded, exported = ask(
        {"ask": "plan", "pixels": base64.b64encode(stored).decode()}, {"ask": "export", "export": export}
    )
    labels = "\n".join(plan["labels"])
    assert decoded == {"title": plan["title"], "samples": str(len(plan["samples"])), "labels": labels}
    (tmp_path / "device.json").write_text(exported["document"], encoding="utf-8")
    read = read_device(tmp_path / "device.json")
    assert [(r.name, r.milliseconds, r.fingerprint) for r in read] == [
        (f"iPhone15,2 {p}", 1.25, plan["fingerprint"]) for p in ("CPU", "CPU and GPU")
    ]
    assert {name: encode(answer) for name, answer in read[0].answers.items()} == scores
