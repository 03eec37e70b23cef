"""app: an iOS project around a Core ML model, with photos and what they should give, to be proved on the device."""

from __future__ import annotations

import json
import plistlib
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from coreproof.errors import ConversionError, InputError
from coreproof.model.atomic import replacing
from coreproof.model.base import Model
from coreproof.model.coreml import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.run.photos import list_photos
from coreproof.ship.plan import build_plan
from coreproof.ship.playground import package_swift
from coreproof.ship.xcode import DEPLOYMENT_TARGET, Project, info_plist

MOST_PHOTOS = 60
"""Photos that go into the app, spread evenly over the folder."""

Report = Callable[[str, int, int], None]


def app(
    model: Model | str | Path,
    photos: str | Path,
    out: str | Path,
    *,
    form: Literal["xcode", "swiftpm"] = "xcode",
    title: str | None = None,
    identifier: str | None = None,
    feeding: Feeding | None = None,
    labels: Sequence[str] | None = None,
    limit: int = MOST_PHOTOS,
    progress: Report | None = None,
) -> App:
    """Writes the project folder ``out``, whole or not at all.

    ``form`` "xcode" is an .xcodeproj with its sources, "swiftpm" an App Playground (``out`` then ends in .swiftpm).
    ``identifier`` is the bundle identifier (default: made from the title). ``feeding``: how a picture is cut, and for a model
    that takes an array, its numbers. ``labels``: class names for a model that brings none.

    Raises ConversionError for a model that is not Core ML, InputError for one that takes no single picture, PhotoError.
    """
    from coreproof.model.load import load

    loaded = load(model)
    if not isinstance(loaded, CoreMLModel) or loaded.format not in ("mlprogram", "neuralnetwork"):
        raise ConversionError(
            "an app is made around a Core ML model",
            where=loaded.name,
            expected="an ML Program or a NeuralNetwork",
            found=loaded.format,
            fix="`coreproof convert MODEL MODEL.mlpackage` makes one",
        )
    shown = title or loaded.name
    name = _identifier(shown)
    out = Path(out)
    if form == "swiftpm" and out.suffix != ".swiftpm":
        raise InputError("an App Playground is a folder that ends in .swiftpm", found=str(out))
    listed = list_photos(photos)
    every = max(1, -(-len(listed.files) // limit))
    chosen = {listed.name(file): file for file in listed.files[::every]}
    model_file = f"{name}{'.mlmodel' if _single_file(loaded) else '.mlpackage'}"
    with replacing(out) as fresh:
        inner = fresh / name if form == "xcode" else fresh
        inner.mkdir(parents=True)
        resources = inner if form == "xcode" else inner / "Resources"
        resources.mkdir(exist_ok=True)
        plan, left_out = build_plan(
            loaded, model_file, chosen, resources, title=shown, feeding=feeding, labels=labels, progress=progress
        )
        plan["model"] = name
        loaded.save(resources / model_file)
        (resources / "proof.json").write_text(json.dumps(plan, indent=1, ensure_ascii=False), encoding="utf-8")
        sources = swift_sources()
        for file, text in sources.items():
            (inner / file).write_text(text, encoding="utf-8")
        (fresh / "README.md").write_text(_readme(shown, name, form, plan), encoding="utf-8")
        bundle = identifier or f"org.coreproof.{name.lower()}"
        if form == "xcode":
            _write_project(
                fresh,
                inner,
                Project(name, bundle, tuple(sources), model_file, ("proof.json", "Photos"), _minimum(loaded)),
                plan,
            )
        else:
            (fresh / "Package.swift").write_text(package_swift(name, shown, bundle, plan["kind"]), encoding="utf-8")
    return App(out, plan, tuple(left_out))


class App:
    """The project that was written: its folder, proof.json, and photos that were left out with the reason."""

    def __init__(self, folder: Path, plan: dict[str, Any], left_out: tuple[str, ...]) -> None:
        self.folder = folder
        self.plan = plan
        self.left_out = left_out


def swift_sources() -> dict[str, str]:
    """The app's Swift files by name. They are the same for every model: what differs stands in proof.json."""
    folder = files("coreproof.ship") / "swift"
    return {f.name: f.read_text(encoding="utf-8") for f in sorted(folder.iterdir(), key=lambda f: f.name)}


def _write_project(fresh: Path, inner: Path, project: Project, plan: dict[str, Any]) -> None:
    folder = fresh / f"{project.name}.xcodeproj"
    folder.mkdir()
    (folder / "project.pbxproj").write_text(project.pbxproj(), encoding="utf-8")
    (inner / "Info.plist").write_bytes(plistlib.dumps(info_plist(camera=plan["kind"] == "classifier")))


def _single_file(model: CoreMLModel) -> bool:
    return model.format == "neuralnetwork" and (model.path is None or model.path.suffix == ".mlmodel")


def _identifier(title: str) -> str:
    """The title as a name that Xcode, Swift and the bundle identifier all take."""
    words = re.findall(r"[A-Za-z0-9]+", title)
    name = "".join(word[:1].upper() + word[1:] for word in words) or "Model"
    return name if name[0].isalpha() else f"Model{name}"


def _minimum(model: CoreMLModel) -> str:
    """The iOS version that the model asks for, at least what the app's own code needs."""
    by_specification = {7: "16.0", 8: "17.0", 9: "18.0", 10: "26.0"}
    return by_specification.get(model.spec.specificationVersion, DEPLOYMENT_TARGET)


def _readme(title: str, name: str, form: str, plan: dict[str, Any]) -> str:
    opened = f"{name}.xcodeproj" if form == "xcode" else "this folder"
    return f"""# {title}

Open {opened} in Xcode, choose your team under Signing, and run it on an iPhone or iPad.

The proof screen runs the {len(plan["photos"])} photos on the CPU, the GPU and the Neural Engine, compares with what
{plan["engine"]} answered, and exports `device.json`. To put the device into the agreement matrix:

    coreproof compare LINEUP.toml --photos FOLDER --import device.json --out FOLDER

Made by coreproof {plan["coreproof"]}. The app makes no network requests.
"""
