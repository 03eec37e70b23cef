"""proof.json: what the app knows about the model, how it is fed, and what coreproof's runtime answered on each sample."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from coreproof.errors import InputError, PhotoError
from coreproof.feeding.picture_values import picture_input
from coreproof.feeding.predict import feed, is_distribution, probabilities
from coreproof.handover.samples import Answered, Report, answer, array_samples, photo_samples, with_scores
from coreproof.handover.screen import Kind, reading_of, screen_for
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature
from coreproof.model.feeding import Feeding
from coreproof.runtime.open import session
from coreproof.runtime.session import Session, Values

Samples = Mapping[str, Path] | Sequence[Mapping[str, object]]
"""Photos by the name that a comparison knows them by, or arrays by input name for each sample."""


def build_plan(
    model: CoreMLModel,
    samples: Samples,
    folder: Path,
    *,
    feeding: Feeding | None = None,
    labels: Sequence[str] | None = None,
    screen: Kind | None = None,
    progress: Report | None = None,
) -> tuple[dict[str, object], Answered]:
    """The document of proof.json, and the samples, those that were left out with the reason.

    Writes into ``folder`` what the document names: each photo, losslessly what the model sees of it, arrays, and expected
    answers. ``screen`` None: what fits the model. Raises InputError for a model that cannot be fed like that, PhotoError where
    no photo can be read.
    """
    known = Answered()
    photos = isinstance(samples, Mapping)
    with session(model) as running:
        if isinstance(samples, Mapping):
            feature, seen = picture_input(model, feeding)
            given = photo_samples(model, samples, seen, feeding, known.left_out)
        else:
            given = array_samples(samples)
        answer(running, given, folder, len(samples), progress, known)
        if not known.entries:
            raise PhotoError("none of the photos can be read", found="; ".join(known.left_out[:5]))
        kind = screen or screen_for(running.signature, known.outputs[0], bool(labels))
        named = _outputs(running, known.outputs[0])
        document: dict[str, object] = {
            "fingerprint": fingerprint(model),
            "engine": running.engine,
            "kind": kind,
            "picture": _picture(model, feature, seen, feeding) if photos else None,
            "values": [] if photos else _values(model, known.entries[0]["inputs"]),
            "boxes": None,
            "outputs": named,
            **_classes(running, known.outputs[0], kind, labels),
        }
        # a classifier's answer is its probabilities: the stored outputs would say it once more
        document["samples"] = with_scores(running, known, folder) if kind == "classifier" else known.entries
    if kind == "detector":
        reading = reading_of(known.outputs)
        if reading is None:
            found = "; ".join(f"{o['name']} {o['shape']}" for o in named)
            raise InputError("these outputs are no detector's", where=model.name, found=found)
        document["boxes"] = asdict(reading)
    return document, known


def _values(model: CoreMLModel, given: Container[str]) -> list[dict[str, str]]:
    """The inputs that are arrays or numbers, as far as they are given: Plan.Value in Plan.swift."""
    taken = [f for f in model.signature.inputs if f.name in given]
    return [{"name": f.name, "kind": f.kind, "dtype": f.dtype or "float32"} for f in taken]


def _picture(model: CoreMLModel, feature: Feature, seen: Feeding, feeding: Feeding | None) -> dict[str, object]:
    """The picture input: Plan.Picture in Plan.swift."""
    shape: Sequence[int] = ()
    if feature.image is None:
        # fed once, to see the shape that the model's declaration leaves open
        shape = np.asarray(feed(model, Image.new("RGB", seen.size), feeding)[feature.name]).shape
    return {
        "name": feature.name,
        "isImage": feature.image is not None,
        "shape": list(shape),
        "dtype": feature.dtype or "float32",
        "colour": feature.image.colour if feature.image is not None else seen.colour,
        "width": seen.size[0],
        "height": seen.size[1],
        "squash": seen.resize == "squash",
        "resizeTo": seen.resize_to,
        "interpolation": seen.interpolation,
        # of tall photos Pillow 13 scales the height first, which rounds otherwise
        "tallFirst": int(PIL.__version__.partition(".")[0]) >= 13,
        "scale": seen.scale,
        "mean": list(seen.mean),
        "std": list(seen.std),
        "channelsLast": seen.layout == "NHWC",
    }


def _outputs(running: Session, outputs: Values) -> list[dict[str, object]]:
    """Outputs of numbers and pictures, with the lengths that they really have."""
    listed: list[dict[str, object]] = []
    for feature in running.signature.outputs:
        value = outputs.get(feature.name)
        if isinstance(value, Image.Image):
            listed.append({"name": feature.name, "shape": [value.height, value.width], "isImage": True})
        elif value is not None and not isinstance(value, dict | str) and np.asarray(value).dtype.kind in "fiub":
            listed.append({"name": feature.name, "shape": list(np.shape(value)), "isImage": False})
    return listed


def _classes(running: Session, outputs: Values, kind: Kind, labels: Sequence[str] | None) -> dict[str, object]:
    """Where a classifier's probabilities are found, and what its classes are called."""
    signature = running.signature
    named = [str(label) for label in signature.labels or labels or ()]
    document: dict[str, object] = {"scores": None, "probabilities": None, "softmax": False, "labels": named}
    if kind != "classifier":
        return document
    count = len(probabilities(running, dict(outputs)))
    if named and len(named) != count:
        raise InputError("the labels do not fit the model", expected=f"{count} classes", found=f"{len(named)} labels")
    if signature.probabilities is not None:
        # the network's own scores where they are known: a dictionary holds one score a label, and labels may repeat
        raw = outputs[signature.scores] if signature.scores else list(outputs[signature.probabilities].values())
        document["probabilities"] = signature.probabilities
    else:
        name = next(n for n, v in outputs.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f")
        document["scores"], raw = name, outputs[name]
    # scores that are no distribution yet are logits, which the app turns into one
    document["softmax"] = not is_distribution(np.asarray(raw, np.float64).reshape(-1))
    return document


def fingerprint(model: CoreMLModel) -> str:
    """Changes with the model: its protobuf and its weights, as they are stored."""
    # deterministic: maps in protobuf have no order of their own
    digest = hashlib.blake2b(model.spec.SerializeToString(deterministic=True), digest_size=12)
    if model.folder is not None:
        # sorted: file systems list in any order
        for file in sorted((model.folder / "weights").rglob("*")):
            if file.is_file():
                digest.update(file.read_bytes())
    return digest.hexdigest()
