"""The iOS project: the project file holds together, what it names is there, and what cannot be made is refused whole."""

from __future__ import annotations

import json
import plistlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import openstep_plist
import pytest
import tree_sitter
import tree_sitter_swift
from PIL import Image

import coreproof as cp
from coreproof.errors import ConversionError, CoreproofError, InputError, OutputExistsError, PhotoError
from coreproof.handover.app import app, swift_sources
from coreproof.handover.playground import package_swift, swift_string
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx


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


def members(objects: dict[str, Any], phase: str) -> list[str]:
    """The files of a build phase."""
    phases = [o for o in objects.values() if o["isa"] == f"PBX{phase}BuildPhase"]
    return [objects[objects[build]["fileRef"]]["path"] for o in phases for build in o["files"]]


def parses(source: str) -> bool:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    return not parser.parse(source.encode()).root_node.has_error


def check(made: Any, model: CoreMLModel) -> None:
    """What holds for every Xcode project: see issue 4."""
    document, objects = project(made.folder)
    text = next(made.folder.glob("*.xcodeproj/project.pbxproj")).read_text(encoding="utf-8")
    assert all(text.count(f"\n\t\t{identifier} /* ") == 1 for identifier in objects), "an identifier that is not unique"
    for kind in {o["isa"] for o in objects.values()}:
        section = text[text.index(f"/* Begin {kind} section */") : text.index(f"/* End {kind} section */")]
        assert section.count("\t\tisa = ") == [o["isa"] for o in objects.values()].count(kind)
    assert referenced(document) == set(objects), "a reference without its object, or an object that nothing refers to"
    group = next(o for o in objects.values() if o["isa"] == "PBXGroup" and o.get("path"))
    inner = made.folder / group["path"]
    for child in group["children"]:
        assert (inner / objects[child]["path"]).exists(), objects[child]
    # everything in the folder is in the project
    assert {p.name for p in inner.iterdir()} == {objects[child]["path"] for child in group["children"]}
    target = next(o for o in objects.values() if o["isa"] == "PBXNativeTarget")
    settings = [objects[c]["buildSettings"] for c in objects[target["buildConfigurationList"]]["buildConfigurations"]]
    assert all((made.folder / s["INFOPLIST_FILE"]).is_file() for s in settings)
    assert all(
        (inner / "Assets.xcassets" / f"{s['ASSETCATALOG_COMPILER_APPICON_NAME']}.appiconset").is_dir()
        and (inner / "Assets.xcassets" / f"{s['ASSETCATALOG_COMPILER_GLOBAL_ACCENT_COLOR_NAME']}.colorset").is_dir()
        for s in settings
    )
    model_file = made.plan["modelFile"]
    sources = members(objects, "Sources")
    assert sources.count(model_file) == 1
    assert members(objects, "Frameworks") == []
    assert set(members(objects, "Resources")) == {"proof.json", "Samples", "Assets.xcassets"}
    assert set(sources) == {model_file, *swift_sources()}
    kinds = {o["path"]: o.get("lastKnownFileType") for o in objects.values() if o["isa"] == "PBXFileReference"}
    assert kinds[model_file] == ("folder.mlpackage" if model_file.endswith(".mlpackage") else "file.mlmodel")
    assert cp.load(inner / model_file).signature == model.signature
    assert [p for p in made.folder.rglob("*.ml*") if p.name == model_file] == [inner / model_file]
    for sample in made.plan["samples"]:
        files = [sample["file"], sample["seen"], *sample["outputs"].values()]
        files += [given["file"] for given in sample["inputs"].values()]
        assert all((inner / file).is_file() for file in files if file is not None)
    assert json.loads((inner / "proof.json").read_text(encoding="utf-8")) == made.plan
    plist = plistlib.loads((inner / "Info.plist").read_bytes())
    assert plist["NSPhotoLibraryUsageDescription"]
    camera = made.plan["kind"] == "classifier" and made.plan["picture"] is not None
    assert bool(plist.get("NSCameraUsageDescription")) == camera


def test_the_project_holds_together(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")
    check(made, classifier)
    # the same app again is the same project file
    assert project(app(classifier, photos, tmp_path / "again").folder)[0] == project(made.folder)[0]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("Apple_SqueezeNetInt8LUT.mlmodel", "classifier"),
        ("dhruvweaver_DrawMNIST_final.mlpackage", "classifier"),
        ("packt_small_unet.mlmodel", "image"),
        ("Apple_DeepLabV3Int8LUT.mlmodel", "image"),
        ("tucan_pose_cpm.mlmodel", "array"),
    ],
)
def test_apps_of_real_models(model: str, kind: str, shared_data: Path, tmp_path: Path) -> None:
    loaded = cp.load(shared_data / "coreml" / model)
    assert isinstance(loaded, CoreMLModel)
    made = app(loaded, shared_data / "photos", tmp_path / "app", limit=2)
    check(made, loaded)
    assert (made.plan["kind"], len(made.plan["samples"])) == (kind, 2)
    image = loaded.signature.inputs[0].image
    picture = made.plan["picture"]
    assert image is not None
    assert (picture["width"], picture["height"], picture["colour"]) == (image.width, image.height, image.colour)
    assert made.plan["labels"] == [str(label) for label in loaded.signature.labels or ()]


def test_the_icon_is_what_xcode_takes(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")
    catalogue = next(made.folder.glob("*/Assets.xcassets"))
    icon = json.loads((catalogue / "AppIcon.appiconset" / "Contents.json").read_text())["images"]
    assert [(i["idiom"], i["size"]) for i in icon] == [("universal", "1024x1024")]
    header = (catalogue / "AppIcon.appiconset" / icon[0]["filename"]).read_bytes()
    assert struct.unpack(">II", header[16:24]) == (1024, 1024)
    assert header[25] == 2, "an icon without transparency"
    colours = json.loads((catalogue / "AccentColor.colorset" / "Contents.json").read_text())["colors"]
    assert [c.get("appearances", [{}])[0].get("value") for c in colours] == [None, "dark"]


def test_a_playground(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "Tiny.swiftpm", form="swiftpm", title='Tiny "net" \\(x)')
    manifest = (made.folder / "Package.swift").read_text(encoding="utf-8")
    assert parses(manifest)
    assert manifest.startswith("// swift-tools-version: 5.9\n")
    for part in (
        ".iOSApplication(",
        "import AppleProductTypes",
        ".camera(purposeString:",
        ".photoLibrary(purposeString:",
    ):
        assert part in manifest
    # capabilities stand before the category, as the initialiser wants it
    assert manifest.index("capabilities:") < manifest.index("appCategory: .developerTools")
    assert r'name: "Tiny \"net\" \\(x)"' in manifest
    for named in ("Assets.xcassets", "Resources", "README.md"):
        assert (made.folder / named).exists(), named
    assert (made.folder / "Resources" / made.plan["modelFile"]).exists()
    assert {p.name for p in made.folder.glob("*.swift")} == {*swift_sources(), "Package.swift"}
    with pytest.raises(InputError, match=r"ends in \.swiftpm"):
        app(classifier, photos, tmp_path / "Tiny", form="swiftpm")


def test_what_a_playground_asks_for_is_what_it_needs() -> None:
    plain = package_swift("A", "A", "a.b", camera=False, minimum="17.0")
    assert ".camera(" not in plain
    assert '.iOS("17.0")' in plain
    assert swift_string('a\x1b"\\é🚂') == '"a\\u{1b}\\"\\\\é🚂"'


def test_a_title_may_be_anything(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    for number, title in enumerate(["CoreML", 'Grüße "an" 🚂\n$(HOME) ${PATH}', "🚂", "9 lives " * 40, "\u202eevil"]):
        made = app(classifier, photos, tmp_path / str(number), title=title)
        document, objects = project(made.folder)
        assert referenced(document) == set(objects)
        name = made.plan["model"]
        assert name.isascii()
        assert name.isalnum()
        assert name[0].isalpha()
        shown = plistlib.loads((made.folder / name / "Info.plist").read_bytes())["CFBundleDisplayName"]
        assert "$(" not in shown
        assert "${" not in shown
        assert not set(made.plan["title"]) & set("\n\u202e")


# refusals


def test_an_app_needs_a_core_ml_model(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"coreproof convert MODEL MODEL\.mlpackage --image"):
        app(OnnxModel(conv_relu_onnx(), name="net"), photos, tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_what_stands_there_is_kept_unless_it_may_go(
    classifier: CoreMLModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for place in (mine, mine / "thesis.txt"):
        with pytest.raises(OutputExistsError, match="something else stands"):
            app(classifier, photos, place)
    monkeypatch.chdir(mine)
    with pytest.raises(OutputExistsError, match="something else stands"):
        app(classifier, photos, mine, replace=True)
    monkeypatch.undo()
    with pytest.raises(OutputExistsError, match="something else stands"):
        app(classifier, photos, photos, replace=True)
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert (app(classifier, photos, mine, replace=True).folder / "README.md").is_file()

    made = app(classifier, photos, tmp_path / "app")
    with pytest.raises(OutputExistsError, match="--replace"):
        app(classifier, photos, tmp_path / "app")
    (made.folder / "mine.txt").write_text("of the old one")
    assert not (app(classifier, photos, tmp_path / "app", replace=True).folder / "mine.txt").exists()
    (tmp_path / "empty").mkdir()
    assert app(classifier, photos, tmp_path / "empty").folder == tmp_path / "empty"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"identifier": "no dots"}, "bundle identifier"),
        ({"title": " \n"}, "needs a title"),
        ({"screen": "detector"}, "no detector's"),
        ({"inputs": [{}]}, "photos or arrays"),
    ],
)
def test_what_cannot_be_is_said(
    arguments: dict[str, Any], said: str, classifier: CoreMLModel, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        app(classifier, photos, tmp_path / "app", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_photos_that_are_none_are_said(classifier: CoreMLModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="proved on photos"):
        app(classifier, None, tmp_path / "app")
    with pytest.raises(PhotoError, match="no such folder"):
        app(classifier, tmp_path / "nothing", tmp_path / "app")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(PhotoError, match="none of the photos"):
        app(classifier, tmp_path / "photos", tmp_path / "app")
    assert not (tmp_path / "app").exists()
    # every kind of refusal is one that the command line knows how to say
    assert issubclass(PhotoError, CoreproofError)


def test_photos_are_spread_over_the_folder(classifier: CoreMLModel, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(11):
        Image.fromarray(np.full((9, 9, 3), 20 * i, np.uint8)).save(tmp_path / "photos" / f"{i:02d}.png")
    made = app(classifier, tmp_path / "photos", tmp_path / "app", limit=10)
    assert len(made.plan["samples"]) == 10
    few = app(classifier, tmp_path / "photos", tmp_path / "few", limit=3)
    assert [s["name"] for s in few.plan["samples"]] == ["00.png", "03.png", "07.png"]
