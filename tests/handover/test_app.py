"""The iOS project: the project file holds together, what it names is there, and what cannot be made is refused whole."""

from __future__ import annotations

import json
import plistlib
import re
import struct
import subprocess
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import openstep_plist
import pytest
import tree_sitter
import tree_sitter_swift
import yaml
from PIL import Image

import coreproof as cp
from coreproof.errors import ConversionError, CoreproofError, InputError, OutputExistsError, PhotoError
from coreproof.handover.app import app
from coreproof.handover.package import CALLS, library_manifest, module_name
from coreproof.handover.playground import package_swift, swift_string
from coreproof.handover.screen import Kind
from coreproof.handover.sources import package_sources, swift_sources
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


def members(objects: dict[str, Any], phase: str, target: dict[str, Any] | None = None) -> list[str]:
    """The files of a build phase, of one target or of all."""
    own = objects if target is None else target["buildPhases"]
    phases = [objects[identifier] for identifier in own if objects[identifier]["isa"] == f"PBX{phase}BuildPhase"]
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
    groups = [o for o in objects.values() if o["isa"] == "PBXGroup" and o.get("path")]
    name = made.plan["model"]
    assert {group["path"] for group in groups} == {name, f"{name}Tests"}
    inner = made.folder / name
    for group in groups:
        # everything in a folder is in the project
        named = {objects[child]["path"] for child in group["children"]}
        assert {p.name for p in (made.folder / group["path"]).iterdir()} == named
    target, tests = (
        next(o for o in objects.values() if o.get("productType", "").endswith(kind))
        for kind in (".application", ".unit-test")
    )
    check_tests(made, objects, target, tests)
    settings = [objects[c]["buildSettings"] for c in objects[target["buildConfigurationList"]]["buildConfigurations"]]
    assert all((made.folder / s["INFOPLIST_FILE"]).is_file() for s in settings)
    assert all(
        (inner / "Assets.xcassets" / f"{s['ASSETCATALOG_COMPILER_APPICON_NAME']}.appiconset").is_dir()
        and (inner / "Assets.xcassets" / f"{s['ASSETCATALOG_COMPILER_GLOBAL_ACCENT_COLOR_NAME']}.colorset").is_dir()
        for s in settings
    )
    model_file = made.plan["modelFile"]
    sources = members(objects, "Sources", target)
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
    camera = made.plan["kind"] != "array" and made.plan["picture"] is not None
    assert bool(plist.get("NSCameraUsageDescription")) == camera


def check_tests(made: Any, objects: dict[str, Any], target: dict[str, Any], tests: dict[str, Any]) -> None:
    """The target that runs the proof inside the app, the scheme that builds both, and the workflow that runs it."""
    name = made.plan["model"]
    assert members(objects, "Sources", tests) == ["ProofTests.swift"]
    source = (made.folder / f"{name}Tests" / "ProofTests.swift").read_text(encoding="utf-8")
    assert parses(source)
    assert "@testable import AppModule\n" in source
    identifiers = {id(o): identifier for identifier, o in objects.items()}
    app, tested = identifiers[id(target)], identifiers[id(tests)]
    (dependency,) = tests["dependencies"]
    assert objects[dependency]["target"] == app
    assert objects[objects[dependency]["targetProxy"]]["remoteGlobalIDString"] == app
    root = next(o for o in objects.values() if o["isa"] == "PBXProject")
    assert root["targets"] == [app, tested]
    assert root["attributes"]["TargetAttributes"][tested]["TestTargetID"] == app
    for identifier in objects[tests["buildConfigurationList"]]["buildConfigurations"]:
        settings = objects[identifier]["buildSettings"]
        assert settings["TEST_HOST"].startswith(f"$(BUILT_PRODUCTS_DIR)/{name}.app/")
        assert settings["TEST_HOST"].endswith(f"/{name}")
    debug, release = (
        next(o["buildSettings"] for o in objects.values() if o["isa"] == "XCBuildConfiguration" and o["name"] == kind
             and "SWIFT_VERSION" in o["buildSettings"])
        for kind in ("Debug", "Release")
    )  # fmt: skip
    assert (debug["SWIFT_OPTIMIZATION_LEVEL"], debug["ENABLE_TESTABILITY"]) == ("-Onone", "YES")
    assert {s["SWIFT_VERSION"] for s in (debug, release)} == {"6.0"}
    assert {s["IPHONEOS_DEPLOYMENT_TARGET"] for s in (debug, release)} <= {"17.0", "18.0", "26.0"}
    shared = made.folder / f"{name}.xcodeproj" / "xcshareddata" / "xcschemes" / f"{name}.xcscheme"
    scheme = ElementTree.fromstring(shared.read_text(encoding="utf-8"))
    built = scheme.findall(".//BuildableReference")
    assert {r.attrib["ReferencedContainer"] for r in built} == {f"container:{name}.xcodeproj"}
    products = {o["path"] for o in objects.values() if o.get("sourceTree") == "BUILT_PRODUCTS_DIR"}
    assert products == {r.attrib["BuildableName"] for r in built} == {f"{name}.app", f"{name}Tests.xctest"}
    for reference in built:
        named = objects[reference.attrib["BlueprintIdentifier"]]
        assert (named["isa"], named["name"]) == ("PBXNativeTarget", reference.attrib["BlueprintName"])
    (testable,) = scheme.findall("./TestAction/Testables/TestableReference/BuildableReference")
    assert testable.attrib["BlueprintIdentifier"] == tested
    check_workflow(made.folder, f"xcodebuild test -project {name}.xcodeproj -scheme {name} ")


def check_workflow(folder: Path, command: str) -> None:
    workflow = yaml.safe_load((folder / ".github" / "workflows" / "proof.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["proof"]["steps"]
    (run,) = (step for step in steps if step.get("run", "").startswith("xcodebuild"))
    assert run["run"].startswith(command)
    result = run["run"].split("-resultBundlePath ")[1]
    (taken,) = (step for step in steps if "xcresulttool" in step.get("run", ""))
    assert f"--path {result} --output-path build/proof" in taken["run"]
    assert taken["if"] == steps[-1]["if"] == "always()", "device.json is kept where the proof fails too"
    assert steps[-1]["with"]["path"] == "build/proof"
    for step in steps:
        if "run" in step:
            assert subprocess.run(["bash", "-n"], input=step["run"], text=True, check=False).returncode == 0


@pytest.mark.parametrize("title", ["Tiny net", "Model"])
def test_a_package(title: str, classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "package", form="package", title=title)
    name = made.plan["model"]
    # a type would hide a module of its own name
    assert name == {"Tiny net": "TinyNet", "Model": "ModelKit"}[title]
    manifest = (made.folder / "Package.swift").read_text(encoding="utf-8")
    assert parses(manifest)
    library, tests = made.folder / "Sources" / name, made.folder / "Tests" / f"{name}Tests"
    named = set(re.findall(r'\.(?:copy|process)\("(.+?)"\)', manifest))
    assert named == {"proof.json", made.plan["modelFile"], "samples.json", "Samples"}
    assert {p.name for p in library.iterdir()} == {*package_sources("classifier"), "proof.json", made.plan["modelFile"]}
    assert {p.name for p in tests.iterdir()} == {"ProofTests.swift", "samples.json", "Samples"}
    # what ships carries no photo; the plans are the same but for the samples
    shipped, tested = (
        json.loads(file.read_text(encoding="utf-8")) for file in (library / "proof.json", tests / "samples.json")
    )
    assert (shipped.pop("samples"), len(tested.pop("samples"))) == ([], 3)
    assert shipped == tested
    assert f"@testable import {name}\n" in (tests / "ProofTests.swift").read_text(encoding="utf-8")
    check_workflow(made.folder, f"xcodebuild test -scheme {name} -destination platform=macOS ")
    readme = (made.folder / "README.md").read_text(encoding="utf-8")
    assert f"import {name}\n" in readme
    assert CALLS["classifier"] in readme
    with pytest.raises(OutputExistsError, match="--replace"):
        app(classifier, photos, made.folder, form="package")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_package_answers_as_its_kind(kind: Kind) -> None:
    """The call that the README shows is there, with the arguments that it shows, and no other kind's."""
    sources = package_sources(kind)
    assert all(parses(text) for text in sources.values())
    assert not any("UIImage(" in text or "SwiftUI" in text for text in sources.values()), "no screen in a library"
    whole = "\n".join(sources.values())
    calls = {re.search(r"Model\(\)\.(\w+)\(", call)[1] for call in CALLS.values()}  # type: ignore[index]
    offered = set(re.findall(r"public func (\w+)\(", whole))
    assert offered & calls == {re.search(r"Model\(\)\.(\w+)\(", CALLS[kind])[1]}  # type: ignore[index]
    if kind == "classifier":
        for field in ("label", "probability", "classes"):
            assert re.search(rf"public (?:let|var) {field}\b", whole)


def test_a_package_of_macos_too() -> None:
    assert '.iOS("18.0"), .macOS("15.0")' in library_manifest("A", "A.mlpackage", "18.0")
    assert module_name("CoreML") == "CoreMLKit"


def test_the_project_holds_together(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app")
    check(made, classifier)
    # the same app again is the same project file
    assert project(app(classifier, photos, tmp_path / "again").folder)[0] == project(made.folder)[0]


@pytest.mark.sweep(1)
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
    assert manifest.startswith("// swift-tools-version: 6.0\n")
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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
