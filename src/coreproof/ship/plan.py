"""proof.json: what the app knows about the model, how it is fed, and what coreproof's runtime answered on each photo."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from coreproof.errors import InputError, PhotoError
from coreproof.model.coreml import CoreMLModel
from coreproof.model.features import Feature
from coreproof.model.feeding import Feeding
from coreproof.run.images import fit, open_picture
from coreproof.run.predict import feed, is_distribution, probabilities, seeing
from coreproof.run.session import Session, session

Kind = Literal["classifier", "image", "detector", "array"]


@dataclass(frozen=True)
class Shown:
    """A photo that goes into the app: the file, its name in comparisons and in the app, and the model's own view of it."""

    file: Path
    name: str
    stem: str
    seen: Image.Image


def build_plan(
    model: CoreMLModel,
    model_file: str,
    photos: Mapping[str, Path],
    folder: Path,
    *,
    title: str,
    feeding: Feeding | None = None,
    labels: Sequence[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The document of proof.json, and the photos that were left out with the reason.

    ``photos``: files by the name that a comparison knows them by. Writes into ``folder`` what the document names: each
    photo, and losslessly what the model sees of it. Raises InputError for a model that takes no single picture, PhotoError where
    no photo can be read.
    """
    feature, seen = seeing(model, feeding)
    entries: list[dict[str, Any]] = []
    left_out: list[str] = []
    with session(model) as running:
        kind: Kind | None = None
        softmax = False
        for number, (name, file) in enumerate(photos.items()):
            try:
                picture = open_picture(file)
            except PhotoError as error:
                left_out.append(f"{name}: {error.found or error.problem}")
                continue
            shown = Shown(file, name, f"{number:04d}", fit(picture, seen))
            scores = running.signature.scores
            outputs = running.run(feed(model, picture, feeding), [scores] if scores is not None else [])
            if kind is None:
                kind = _kind(running, outputs)
                softmax = kind == "classifier" and not is_distribution(_raw_scores(running, outputs))
            entries.append(_entry(running, shown, kind, outputs, folder))
            if progress is not None:
                progress("photos", number + 1, len(photos))
        if kind is None:
            raise PhotoError("none of the photos can be read", found="; ".join(left_out[:5]))
        document = _document(running, model, feature, seen, kind, softmax, labels)
    return {"title": title, "modelFile": model_file, **document, "photos": entries}, left_out


def _document(
    running: Session,
    model: CoreMLModel,
    feature: Feature,
    seen: Feeding,
    kind: Kind,
    softmax: bool,
    labels: Sequence[str] | None,
) -> dict[str, Any]:
    from coreproof import __version__

    signature = running.signature
    arrays = [f for f in signature.outputs if f.name not in (signature.predicted_label, signature.probabilities)]
    named = [str(label) for label in labels or signature.labels or ()]
    return {
        "model": model.name,
        "fingerprint": fingerprint(model),
        "kind": kind,
        "input": {
            "name": feature.name,
            "isImage": feature.image is not None,
            "shape": [d if isinstance(d, int) else 1 for d in feature.shape or ()],
            "colour": (feature.image.colour if feature.image is not None else seen.colour).split("_")[0],
            "dtype": feature.dtype or "float32",
        },
        "feeding": {
            "width": seen.size[0],
            "height": seen.size[1],
            "squash": seen.resize == "squash",
            "resizeTo": seen.resize_to,
            "interpolation": seen.interpolation,
            "scale": seen.scale,
            "mean": list(seen.mean),
            "std": list(seen.std),
            "channelsLast": seen.layout == "NHWC",
        },
        "outputs": [
            {
                "name": f.name,
                "shape": [d if isinstance(d, int) else 1 for d in f.shape or ()],
                "isImage": f.image is not None,
            }
            for f in arrays
        ],
        "scores": (arrays[0].name if arrays and signature.probabilities is None else None),
        "probabilities": signature.probabilities,
        "predictedLabel": signature.predicted_label,
        "softmax": softmax,
        "labels": named,
        "engine": running.engine,
        "coreproof": __version__,
    }


def _kind(running: Session, outputs: dict[str, Any]) -> Kind:
    """What screen fits: labels or one row of scores; a picture; boxes; else plain arrays."""
    signature = running.signature
    if signature.labels is not None:
        return "classifier"
    if any(f.image is not None for f in signature.outputs):
        return "image"
    arrays = {name: np.asarray(v) for name, v in outputs.items()}
    shapes = [a.shape for a in arrays.values()]
    if len(shapes) == 1 and max(shapes[0], default=0) == arrays[next(iter(arrays))].size > 1:
        return "classifier"
    if any(s and s[-1] == 4 for s in shapes) and len(shapes) > 1:
        return "detector"
    if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] in (1, 3) and min(shapes[0][2:]) > 8:
        return "image"
    return "array"


def _raw_scores(running: Session, outputs: dict[str, Any]) -> Any:
    name = running.signature.scores
    if name is not None and name in outputs:
        return np.asarray(outputs[name], np.float64).reshape(-1)
    return np.asarray(next(iter(outputs.values())), np.float64).reshape(-1)


def _entry(running: Session, shown: Shown, kind: Kind, outputs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One photo in proof.json; its files are written."""
    stem = shown.stem
    original, view = f"Photos/{stem}{shown.file.suffix.lower()}", f"Photos/{stem}.seen.png"
    (folder / "Photos").mkdir(parents=True, exist_ok=True)
    (folder / original).write_bytes(shown.file.read_bytes())
    shown.seen.save(folder / view)
    entry: dict[str, Any] = {"name": shown.name, "file": original, "seen": view, "scores": None, "outputs": {}}
    if kind == "classifier":
        entry["scores"] = encode(probabilities(running, outputs))
        return entry
    for number, (name, value) in enumerate(sorted(outputs.items())):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            file = f"Photos/{stem}.{number}.f32"
            (folder / file).write_bytes(np.ascontiguousarray(value, "<f4").tobytes())
            entry["outputs"][name] = file
    return entry


def encode(values: Any) -> str:
    """Numbers as the app writes and reads them: base64 of little-endian 32-bit floats."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def decode(text: str) -> np.ndarray[Any, Any]:
    """What ``encode`` wrote, [n] float32. Raises InputError for text that is not that."""
    try:
        data = base64.b64decode(text, validate=True)
        return np.frombuffer(data, "<f4").astype(np.float32)
    except ValueError as error:
        raise InputError("numbers of a device's proof are damaged", found=str(error)) from None


def fingerprint(model: CoreMLModel) -> str:
    """Changes with the model: its protobuf and its weights, as they are stored."""
    digest = hashlib.blake2b(model.spec.SerializeToString(deterministic=True), digest_size=12)
    if model.folder is not None:
        for file in sorted((model.folder / "weights").rglob("*")):
            if file.is_file():
                digest.update(file.read_bytes())
    return digest.hexdigest()
