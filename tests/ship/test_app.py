"""The iOS project: the project file holds together, the sources parse, the plan says what the model says."""

from __future__ import annotations

import json
import plistlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openstep_plist
import pytest
import tree_sitter
import tree_sitter_swift
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import coreproof as cp
from coreproof.convert.onnx_to_coreml.convert import ImageInput
from coreproof.errors import ConversionError, InputError
from coreproof.model.coreml import CoreMLModel
from coreproof.model.onnx import OnnxModel
from coreproof.run.images import pixels
from coreproof.ship.app import app, swift_sources
from coreproof.ship.plan import decode, encode

LABELS = [f"class {i}" for i in range(5)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for i, size in enumerate([(40, 30), (30, 50), (64, 64)]):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / f"photo {i}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    """A 16x16 picture -> conv -> mean -> softmax over five labels, as an ML Program with its own mean and std."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Softmax", ["f"], ["y"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(rng.normal(size=(5, 3, 3, 3)).astype(np.float32), "w")],
    )
    path = tmp_path_factory.mktemp("model") / "tiny net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    image = ImageInput(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / 255)
    model = cp.convert(path, "mlprogram", images={"x": image}, labels=LABELS)
    assert isinstance(model, CoreMLModel)
    return model


def project(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parsed project file, and its objects."""
    text = next(folder.glob("*.xcodeproj/project.pbxproj")).read_text(encoding="utf-8")
    document = openstep_plist.loads(text)
    return document, document["objects"]


def referenced(value: Any) -> set[str]:
    """Every word of 24 hexadecimal digits in a value: identifiers of objects."""
    if isinstance(value, str):
        return {value} if len(value) == 24 and all(c in "0123456789ABCDEF" for c in value) else set()
    items = value.values() if isinstance(value, dict) else value
    return set().union(*(referenced(item) for item in items)) if items else set()


def test_the_project_file_holds_together(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")
    document, objects = project(made.folder)
    text = next(made.folder.glob("*.xcodeproj/project.pbxproj")).read_text(encoding="utf-8")
    assert all(text.count(f"\t\t{identifier} = ") == 1 for identifier in objects)
    assert referenced(document) - set(objects) == set()
    assert referenced(document) == set(objects), "an object that nothing refers to"
    group = next(o for o in objects.values() if o["isa"] == "PBXGroup" and o.get("path"))
    for child in group["children"]:
        assert (made.folder / group["path"] / objects[child]["path"]).exists(), objects[child]
    target = next(o for o in objects.values() if o["isa"] == "PBXNativeTarget")
    settings = [objects[c]["buildSettings"] for c in objects[target["buildConfigurationList"]]["buildConfigurations"]]
    assert all((made.folder / s["INFOPLIST_FILE"]).is_file() for s in settings)


def test_the_model_stands_in_sources_and_only_there(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")
    _, objects = project(made.folder)

    def members(phase: str) -> list[str]:
        return [
            objects[objects[b]["fileRef"]]["path"]
            for o in objects.values()
            if o["isa"] == f"PBX{phase}BuildPhase"
            for b in o["files"]
        ]

    assert made.plan["modelFile"] in members("Sources")
    assert made.plan["modelFile"] not in members("Resources")
    assert set(members("Resources")) == {"proof.json", "Photos"}
    assert {m for m in members("Sources") if m.endswith(".swift")} == set(swift_sources())
    kinds = {o["path"]: o.get("lastKnownFileType") for o in objects.values() if o["isa"] == "PBXFileReference"}
    assert kinds[made.plan["modelFile"]] == "folder.mlpackage"


def test_the_app_says_why_it_asks(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")
    plist = plistlib.loads(next(made.folder.glob("*/Info.plist")).read_bytes())
    assert plist["NSCameraUsageDescription"]
    assert plist["NSPhotoLibraryUsageDescription"]


@pytest.mark.parametrize("name", sorted(swift_sources()))
def test_the_swift_sources_parse(name: str) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    tree = parser.parse(swift_sources()[name].encode())
    assert not tree.root_node.has_error


def test_the_plan_is_what_the_model_is_and_answers(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")
    inner = next(p for p in made.folder.iterdir() if p.is_dir() and p.suffix != ".xcodeproj")
    plan = json.loads((inner / "proof.json").read_text(encoding="utf-8"))
    assert (plan["kind"], plan["labels"], plan["softmax"]) == ("classifier", LABELS, False)
    assert (plan["feeding"]["width"], plan["feeding"]["height"]) == (16, 16)
    assert [p["name"] for p in plan["photos"]] == ["photo 0.png", "photo 1.png", "photo 2.png"]
    assert any("broken.jpg" in reason for reason in made.left_out)
    stored = cp.load(inner / plan["modelFile"])
    assert stored.signature.labels == tuple(LABELS)
    with cp.session(stored) as running:
        for photo in plan["photos"]:
            seen = pixels(Image.open(inner / photo["seen"]), "RGB")
            answer = running.run({"x": seen})[plan["probabilities"]]
            np.testing.assert_allclose(decode(photo["scores"]), list(answer.values()), rtol=1e-6)
            assert (inner / photo["file"]).is_file()


def test_what_swift_reads_is_in_the_plan(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    """Every stored property of Plan.swift that is not optional has its key in proof.json, and no key is without property."""
    made = app(classifier, photos, tmp_path / "app")
    source = swift_sources()["Plan.swift"]
    nested = {"input": "Input", "feeding": "Feeding"}
    assert properties(source, "Plan") == set(made.plan)
    for key, struct in nested.items():
        assert properties(source, struct) == set(made.plan[key])
    assert properties(source, "Photo") == set(made.plan["photos"][0])
    assert properties(source, "Output") == {"name", "shape", "isImage"}


def properties(source: str, struct: str) -> set[str]:
    """Names of the stored properties of a struct, nested types left out."""
    lines = source[source.index(f"struct {struct}:") :].splitlines()
    names, depth = set(), 0
    for line in lines:
        if depth == 1 and line.strip().startswith("let "):
            names.add(line.strip().split()[1].rstrip(":"))
        depth += line.count("{") - line.count("}")
        if depth == 0:
            break
    return names


def test_a_playground(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "Tiny.swiftpm", form="swiftpm")
    manifest = (made.folder / "Package.swift").read_text(encoding="utf-8")
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    assert not parser.parse(manifest.encode()).root_node.has_error
    assert "AppleProductTypes" in manifest
    assert "camera(purposeString" in manifest
    assert (made.folder / "Resources" / made.plan["modelFile"]).exists()
    with pytest.raises(InputError, match=r"ends in \.swiftpm"):
        app(classifier, photos, tmp_path / "Tiny", form="swiftpm")


def test_other_models_get_another_screen(photos: Path, tmp_path: Path) -> None:
    from tests.models import conv_relu_onnx

    model = cp.convert(OnnxModel(conv_relu_onnx(), name="arrays"), "mlprogram", images={"x": ImageInput()})
    made = app(model, photos, tmp_path / "app")
    assert made.plan["kind"] == "array"
    assert (
        "camera" not in json.dumps(sorted(p.name for p in made.folder.rglob("*"))).lower() or made.plan["labels"] == []
    )
    inner = next(p for p in made.folder.iterdir() if p.is_dir() and p.suffix != ".xcodeproj")
    first = made.plan["photos"][0]
    stored = np.frombuffer((inner / first["outputs"]["y"]).read_bytes(), "<f4")
    with cp.session(model) as running:
        again = running.run({"x": pixels(Image.open(inner / first["seen"]), "RGB")})["y"]
    np.testing.assert_array_equal(stored, np.asarray(again, np.float32).reshape(-1))


def test_an_app_needs_a_core_ml_model(photos: Path, tmp_path: Path) -> None:
    from tests.models import conv_relu_onnx

    with pytest.raises(ConversionError, match="around a Core ML model"):
        app(OnnxModel(conv_relu_onnx(), name="net"), photos, tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_the_same_app_is_the_same_project_file(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    one, two = (app(classifier, photos, tmp_path / n) for n in ("one", "two"))
    assert project(one.folder)[0] == project(two.folder)[0]


def test_numbers_survive_the_way_to_the_app_and_back() -> None:
    values = np.float32([0, -1.5, 3e-38, np.inf])
    np.testing.assert_array_equal(decode(encode(values)), values)
    with pytest.raises(InputError, match="damaged"):
        decode("not base64!")


# the resampling of the app: its algorithm, written once more here, is Pillow's to the bit


def resample(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What Resample.swift does with the bilinear filter: fixed-point coefficients, rows first, 8 bits in between."""

    def coefficients(source: int, target: int) -> list[tuple[int, np.ndarray]]:
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

    def across(values: np.ndarray, target: int) -> np.ndarray:
        sums = [
            (np.tensordot(weights, values[low : low + len(weights)].astype(np.int64), 1) + (1 << 21)) >> 22
            for low, weights in coefficients(len(values), target)
        ]
        return np.clip(np.stack(sums), 0, 255).astype(np.uint8)

    return across(across(array.swapaxes(0, 1), size[0]).swapaxes(0, 1), size[1])


@pytest.mark.parametrize("size", [(24, 31), (80, 90), (40, 13)])
def test_the_apps_resampling_is_pillows(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resample(picture, size), expected)
