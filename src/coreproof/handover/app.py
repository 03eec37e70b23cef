"""app: an iOS project around a Core ML model, with samples and what they should give, to be proved on the device."""

from __future__ import annotations

import json
import plistlib
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from coreproof.errors import ConversionError, InputError, OutputExistsError
from coreproof.feeding.photos import list_photos
from coreproof.handover.assets import write_assets
from coreproof.handover.automation import WORKFLOW, scheme, workflow
from coreproof.handover.package import CALLS, library_manifest, module_name
from coreproof.handover.plan import Samples, build_plan
from coreproof.handover.playground import package_swift
from coreproof.handover.samples import Report
from coreproof.handover.screen import Kind
from coreproof.handover.sources import APP_MODULE, PROOF_TESTS, package_sources, proof_tests, swift_sources
from coreproof.handover.xcode import DEPLOYMENT_TARGET, Project, info_plist
from coreproof.model.arguments import of_kind, one_of, texts, whole
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.model.files import outputs
from coreproof.model.files.atomic import replacing
from coreproof.model.noted_feeding import noted_name
from coreproof.model.public import public
from coreproof.version import __version__
from coreproof.visible import in_json, visible

MOST_PHOTOS = 60
"""Photos that go into the app, spread evenly over the folder."""

Form = Literal["xcode", "swiftpm", "package"]
FORMS: tuple[Form, ...] = get_args(Form)
SCREENS: tuple[Kind, ...] = get_args(Kind)


@public
def app(
    model: Model | str | Path,
    photos: str | Path | None,
    out: str | Path,
    *,
    inputs: Sequence[Mapping[str, object]] | None = None,
    form: Form = "xcode",
    title: str | None = None,
    identifier: str | None = None,
    feeding: Feeding | None = None,
    labels: Sequence[str] | None = None,
    screen: Kind | None = None,
    limit: int = MOST_PHOTOS,
    replace: bool = False,
    progress: Report | None = None,
) -> App:
    """Writes the project folder ``out``, whole or not at all.

    ``photos`` is a folder; a model that takes no picture gets ``inputs`` instead: arrays by input name, for each sample.
    ``form`` "xcode" is an .xcodeproj with its sources, "swiftpm" an App Playground (``out`` then ends in .swiftpm), "package"
    a Swift package for an app that there is already: ``try await Model().classify(image)``.
    ``identifier`` is the bundle identifier (default: made from the title). ``feeding``: how a picture is cut, and for a model
    that takes an array, its numbers. ``labels``: class names for a model that brings none. ``screen`` None: what fits the
    model's outputs. ``replace``: what stands at ``out`` may go: an app, in which something may have been changed, or anything.

    Raises ConversionError for a model that is not Core ML, InputError for one that an app cannot feed and for what does not
    fit it; OutputExistsError where something stands at ``out``; PhotoError.

    Example:
        >>> made = cp.app("seen.mlpackage", "photos", "Flowers", form="package")
        >>> len(made.plan["samples"])
        2

    """
    from coreproof.model.load import load

    out, limit, feeding = Path(out), whole(limit, "limit", least=1), of_kind(feeding, Feeding, "feeding")
    labels = None if labels is None else texts(labels, "labels")
    form, screen = one_of(form, FORMS, "form"), None if screen is None else one_of(screen, SCREENS, "screen")
    source = model.path if isinstance(model, Model) else model if isinstance(model, str | Path) else None
    # before the model is read and run over all samples
    _check_place(out, form, replace, (source, photos))
    loaded = _core_ml(load(model))
    shown = _title(
        title if title is not None else noted_name(loaded.spec.description.metadata.userDefined) or loaded.name
    )
    name = module_name(_name(shown)) if form == "package" else _name(shown)
    bundle = _bundle(identifier, name)
    samples = _samples(loaded, photos, inputs, limit, feeding)
    # an ML Program needs its folder of weights; other kinds may be one file
    single = not loaded.is_program and (loaded.path is None or loaded.path.suffix == ".mlmodel")
    model_file = f"{name}{'.mlmodel' if single else '.mlpackage'}"
    bundled = ("proof.json", "Samples", "Assets.xcassets")
    project = Project(name, bundle, tuple(swift_sources()), model_file, bundled, _minimum(loaded))
    try:
        with replacing(out) as fresh:
            # a playground copies the folder Resources as it is; only the tests of a package carry samples
            resources = fresh / {"xcode": name, "swiftpm": "Resources", "package": f"Tests/{name}Tests"}[form]
            resources.mkdir(parents=True)
            document, answered = build_plan(
                loaded, samples, resources, feeding=feeding, labels=labels, screen=screen, progress=progress
            )
            plan: dict[str, Any] = {
                "title": shown,
                "model": name,
                "modelFile": model_file,
                **document,
                "coreproof": __version__,
            }
            # numbers show nothing live: no app of theirs asks for the camera
            camera = document["kind"] != "array" and document["picture"] is not None
            if form == "package":
                library = fresh / "Sources" / name
                library.mkdir(parents=True)
                loaded.save(library / model_file)
                _write_plan(library / "proof.json", {**plan, "samples": []})
                _write_plan(resources / "samples.json", plan)
                _write_library(fresh, project, plan["kind"])
            else:
                loaded.save(resources / model_file)
                _write_plan(resources / "proof.json", plan)
                _write_sources(fresh, project, shown, form, camera=camera)
            if form != "swiftpm":
                (fresh / WORKFLOW).parent.mkdir(parents=True)
                (fresh / WORKFLOW).write_text(workflow(name, form), encoding="utf-8")
            (fresh / "README.md").write_text(
                _readme(plan, form, len(answered.entries), camera=camera), encoding="utf-8"
            )
    except OSError as error:
        raise InputError("the app cannot be written", where=str(out), found=str(error)) from None
    return App(out, plan, tuple(answered.left_out))


@dataclass(frozen=True)
class App:
    """The project that was written: its folder, proof.json, and samples that were left out with the reason."""

    folder: Path
    plan: dict[str, Any]
    left_out: tuple[str, ...]


# what is refused before anything is written


def _check_place(out: Path, form: Form, replace: bool, inputs: Iterable[str | Path | None]) -> None:
    if form == "swiftpm" and out.suffix != ".swiftpm":
        raise InputError(
            "an App Playground is a folder that ends in .swiftpm", found=str(out), fix=f"--out {out}.swiftpm"
        )
    outputs.check_output(out, APP, replace=replace, inputs=inputs)
    # more careful than elsewhere: a project is a thing that people go on working in
    if _is_app(out) and not replace:
        raise OutputExistsError(
            "there is an app already; with it, what was changed in Xcode would be lost",
            where=str(out),
            fix="choose another folder, or allow it: --replace (in Python: replace=True)",
        )


def _is_app(folder: Path) -> bool:
    """Whether this function wrote the folder: a project file, and beside it a proof.json that names coreproof."""
    if not (any(folder.glob("*.xcodeproj")) or (folder / "Package.swift").is_file()):
        return False
    for file in (*folder.glob("*/proof.json"), *folder.glob("Sources/*/proof.json")):
        try:
            return "fingerprint" in json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
    return False


APP = outputs.Kind("an app that coreproof wrote", _is_app)


def _core_ml(model: Model) -> CoreMLModel:
    if not isinstance(model, CoreMLModel):
        source = model.path
        named = ("MODEL", "MODEL") if source is None else (shlex.quote(str(source)), shlex.quote(source.stem))
        raise ConversionError(
            "an app is made around a Core ML model",
            where=model.name if source is None else str(source),
            expected="an .mlpackage or .mlmodel",
            found=model.format,
            fix=f"convert it first: coreproof convert {named[0]} {named[1]}.mlpackage --image --labels labels.txt, "
            "with the --scale, --mean and --std that it was trained with",
        )
    kinds = ("image", "tensor", "double", "int64")
    other = [f for f in model.signature.inputs if not f.optional and f.kind not in kinds]
    if other:
        raise InputError(
            "an app feeds one picture, or numbers",
            where=model.name,
            expected="one picture, or inputs that are arrays or numbers",
            found="; ".join(map(str, other)),
        )
    if model.signature.states:
        raise InputError(
            "the app's screens run a model once, without a state that stays",
            where=model.name,
            found=", ".join(f.name for f in model.signature.states),
        )
    return model


def _samples(
    model: CoreMLModel,
    photos: str | Path | None,
    inputs: Sequence[Mapping[str, object]] | None,
    limit: int,
    feeding: Feeding | None,
) -> Samples:
    if photos is not None and inputs is not None:
        raise InputError("give photos or arrays, not both", where=model.name)
    if photos is not None:
        _require_picture(model, feeding)
        listed = list_photos(photos)
        count = min(limit, len(listed.files))
        # evenly spread: neighbours in a folder are often of one class
        chosen = [listed.files[i * len(listed.files) // count] for i in range(count)]
        return {listed.name(file): file for file in chosen}
    if any(f.image is not None for f in model.signature.inputs):
        raise InputError(
            "a model that takes a picture is proved on photos",
            where=model.name,
            fix="--photos FOLDER (in Python: photos=FOLDER)",
        )
    if not inputs:
        raise InputError(
            "there is nothing to prove the model on",
            where=model.name,
            expected="; ".join(map(str, model.signature.inputs)),
            fix="--inputs FILE.npz, or --photos FOLDER with --size, --mean and --std for a model of pictures (in Python: "
            "inputs=[{name: array}], or photos=FOLDER with feeding=coreproof.Feeding(...))",
        )
    return list(inputs)[:limit]


def _require_picture(model: CoreMLModel, feeding: Feeding | None) -> None:
    """Refuses photos for a model that cannot see them: several inputs, or rows of numbers of which nothing was said."""
    inputs = [f for f in model.signature.inputs if not f.optional] or model.signature.inputs
    flat = [f for f in inputs if f.image is None and f.shape is not None and len(f.shape) < 3]
    if len(inputs) > 1 or (flat and feeding is None):
        raise InputError(
            "the model takes no picture",
            where=model.name,
            found="; ".join(map(str, inputs)),
            fix="leave out --photos: it is proved on random arrays, or on yours: --inputs FILE.npz",
        )


def _title(text: str) -> str:
    """The title on one line, without characters that steer a terminal or turn the direction of writing."""
    plain = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    title = " ".join(re.sub("[\u202a-\u202e\u2066-\u2069]", "", plain).split())
    if not title:
        raise InputError(
            "the app needs a title", found=repr(text), fix="--title 'My model' (in Python: title='My model')"
        )
    return title


def _name(title: str) -> str:
    """The title as a name that Xcode, a file system and the bundle identifier all take."""
    # accents become signs of their own, which ASCII leaves out: É becomes E
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    words = re.findall(r"[A-Za-z0-9]+", plain)
    name = "".join(word[:1].upper() + word[1:] for word in words)[:60] or "Model"
    # no name in Swift begins with a digit
    return name if name[0].isalpha() else f"Model{name}"


def _bundle(identifier: str | None, name: str) -> str:
    if identifier is None:
        return f"org.coreproof.{name.lower()}"
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", identifier):
        raise InputError(
            "a bundle identifier is words of letters, digits and hyphens with dots between",
            expected="com.example.app",
            found=identifier,
        )
    return identifier


# what is written


def _write_plan(file: Path, plan: Mapping[str, object]) -> None:
    file.write_text(in_json(json.dumps(plan, indent=1, ensure_ascii=False)), encoding="utf-8")


def _write_sources(fresh: Path, project: Project, title: str, form: Form, *, camera: bool) -> None:
    """What is built of an app: the Swift files, the assets, and what describes the project."""
    inner = fresh / project.name if form == "xcode" else fresh
    for file, text in swift_sources().items():
        (inner / file).write_text(text, encoding="utf-8")
    write_assets(inner / "Assets.xcassets")
    if form == "swiftpm":
        text = package_swift(project.name, title, project.identifier, camera=camera, minimum=project.minimum)
        (fresh / "Package.swift").write_text(text, encoding="utf-8")
        return
    folder = fresh / f"{project.name}.xcodeproj"
    schemes, tests = folder / "xcshareddata" / "xcschemes", fresh / project.tests
    for new in (schemes, tests):
        new.mkdir(parents=True)
    (folder / "project.pbxproj").write_text(project.pbxproj(), encoding="utf-8")
    identifiers = (project.target, project.test_target)
    text = scheme(project.name, project.name, project.tests, identifiers)
    (schemes / f"{project.name}.xcscheme").write_text(text, encoding="utf-8")
    (tests / PROOF_TESTS).write_text(proof_tests(APP_MODULE), encoding="utf-8")
    (inner / "Info.plist").write_bytes(plistlib.dumps(info_plist(title, camera)))


def _write_library(fresh: Path, project: Project, kind: Kind) -> None:
    """What is built of a package: the Swift files, its manifest, and its test."""
    for file, text in package_sources(kind).items():
        (fresh / "Sources" / project.name / file).write_text(text, encoding="utf-8")
    text = library_manifest(project.name, project.model, project.minimum)
    (fresh / "Package.swift").write_text(text, encoding="utf-8")
    (fresh / "Tests" / project.tests / PROOF_TESTS).write_text(proof_tests(project.name), encoding="utf-8")


def _minimum(model: CoreMLModel) -> str:
    """The iOS version that the model asks for, at least what the app's own code needs."""
    # specification versions came with systems: 8 with iOS 17, 9 with 18, 10 with 26
    by_specification = {9: "18.0", 10: "26.0"}
    return by_specification.get(model.spec.specificationVersion, DEPLOYMENT_TARGET)


def _readme(plan: Mapping[str, Any], form: Form, count: int, *, camera: bool) -> str:
    name, engine, kind = str(plan["model"]), str(plan["engine"]), plan["kind"]
    lines = [f"# {visible(str(plan['title']))}"]
    tested = f"runs {count} samples on the CPU, the GPU and the Neural Engine in turn and compares with what {engine} answered"
    if form == "package":
        lines += [
            "A Swift package with the model, how it is fed, and typed results.",
            "In Xcode: File, Add Package Dependencies, Add Local.",
            f"    import {name}\n\n    {CALLS[kind]}",
            "A picture may have any size: it is turned, cut and scaled to the bit as in the verification. `Photo` takes files, "
            "images and camera frames.",
            f"Its test {tested}; `device.json` is attached to the test's result:",
            f"    xcodebuild test -scheme {name} -destination platform=macOS",
            "Xcode compiles the model when it builds the package; `swift build` alone does not.",
        ]
    else:
        opened = f"{name}.xcodeproj" if form == "xcode" else "this folder"
        lines += [
            f"Open {opened} in Xcode 16 or later, choose your team under Signing & Capabilities, and run it on an iPhone or "
            "iPad with iOS 17 or later.",
            f"The proof screen {tested}, and writes `device.json`: to share, or to save in Files.",
        ]
    if form == "xcode":
        lines += [
            "The same as a test, `device.json` attached to its result:",
            f"    xcodebuild test -project {name}.xcodeproj -scheme {name} -destination 'platform=iOS,name=YOUR IPHONE'",
            "A debug build is not optimised: a large photo takes seconds to be cut. The times of predictions are Core ML's own: "
            "they are the same in both.",
        ]
    if form != "swiftpm":
        lines.append(f"`{WORKFLOW}` runs it on GitHub, where this folder is the repository's root.")
    if camera and kind == "classifier":
        lines += [
            "To put the device into the agreement matrix:",
            "    coreproof compare LINEUP.toml --photos FOLDER --import device.json --out FOLDER",
        ]
    lines.append(f"Made by coreproof {__version__}. It makes no network requests.")
    return "\n\n".join(lines) + "\n"
