"""What an app carries to be proved on: photos with the model's own view of them, or arrays; and what coreproof answered."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from PIL import Image

from coreproof.errors import InputError, PhotoError
from coreproof.feeding.pictures import open_picture
from coreproof.feeding.predict import feed, probabilities
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import resize_and_crop
from coreproof.runtime.session import Session, Values

MOST_BYTES = 150_000_000
"""What the expected answers of an app may take: a network of pictures answers each photo with megabytes."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Given:
    """One sample: its name, what the model is fed, and for a photo the file and the model's view of it."""

    name: str
    inputs: Mapping[str, object]
    file: Path | None = None
    seen: Image.Image | None = None


class SampleEntry(TypedDict):
    """A sample as it stands in proof.json; files are below the folder of the samples."""

    name: str
    file: str | None
    seen: str | None
    inputs: dict[str, dict[str, object]]
    scores: str | None
    outputs: dict[str, str]


@dataclass
class Answered:
    """The samples as they stand in proof.json, what the model gave for each, and those that were left out with the reason."""

    entries: list[SampleEntry] = field(default_factory=list)
    outputs: list[Values] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def photo_samples(
    model: CoreMLModel, photos: Mapping[str, Path], seen: Feeding, feeding: Feeding | None, left_out: list[str]
) -> Iterator[Given]:
    """The photos that can be read, one at a time; the others' names and reasons go into ``left_out``."""
    for name, file in photos.items():
        try:
            picture = open_picture(file)
        except PhotoError as error:
            left_out.append(f"{name}: {error.found or error.problem}")
            continue
        yield Given(name, feed(model, picture, feeding), file, resize_and_crop(picture, seen))


def array_samples(samples: Sequence[Mapping[str, object]]) -> Iterator[Given]:
    """Arrays by input name, numbered; in the 32 bits in which the app keeps them, so that both sides are fed the same."""
    for number, inputs in enumerate(samples, start=1):
        kept = {name: np.asarray(value) for name, value in inputs.items()}
        yield Given(f"sample {number}", {n: np.float32(v) if v.dtype.kind == "f" else v for n, v in kept.items()})


def answer(
    running: Session, given: Iterable[Given], folder: Path, total: int, progress: Report | None, known: Answered
) -> Answered:
    """Runs every sample, and writes into ``folder`` what the app needs of it; ``known`` is filled and given back."""
    stored = 0
    for number, sample in enumerate(given):
        if stored > MOST_BYTES:
            known.left_out.append(
                f"{sample.name} and what follows: the expected answers take {stored / 1e6:.0f} MB so far"
            )
            break
        scores = running.signature.scores
        outputs = running.run(sample.inputs, [scores] if scores is not None else [])
        entry = _inputs(sample, f"Samples/{number:04d}", folder)
        declared = {name: outputs[name] for name in (f.name for f in running.signature.outputs) if name in outputs}
        entry["outputs"], size = _outputs(declared, f"Samples/{number:04d}", folder)
        stored += size
        known.entries.append(entry)
        known.outputs.append(outputs)
        if progress is not None:
            progress("samples", number + 1, total)
    return known


def with_scores(running: Session, answered: Answered, folder: Path) -> list[SampleEntry]:
    """The entries of a classifier: scores in place of stored outputs, whose files are removed."""
    for entry, outputs in zip(answered.entries, answered.outputs, strict=True):
        for file in entry["outputs"].values():
            (folder / file).unlink()
        entry["scores"], entry["outputs"] = encode(probabilities(running, outputs)), {}
    return answered.entries


def _inputs(sample: Given, stem: str, folder: Path) -> SampleEntry:
    (folder / "Samples").mkdir(parents=True, exist_ok=True)
    entry = SampleEntry(name=sample.name, file=None, seen=None, inputs={}, scores=None, outputs={})
    if sample.file is not None and sample.seen is not None:
        photo, seen = f"{stem}{sample.file.suffix.lower()}", f"{stem}.seen.png"
        (folder / photo).write_bytes(sample.file.read_bytes())
        sample.seen.save(folder / seen)
        entry["file"], entry["seen"] = photo, seen
        return entry
    for number, (name, value) in enumerate(sample.inputs.items()):
        array = np.asarray(value)
        file = f"{stem}.in{number}.f32"
        (folder / file).write_bytes(np.ascontiguousarray(array, "<f4").tobytes())
        entry["inputs"][name] = {"file": file, "shape": list(array.shape)}
    return entry


def _outputs(outputs: Mapping[str, object], stem: str, folder: Path) -> tuple[dict[str, str], int]:
    """Files by output name, and the bytes that they take: 8-bit pictures losslessly, everything else as numbers."""
    files: dict[str, str] = {}
    size = 0
    for number, (name, value) in enumerate(outputs.items()):
        if isinstance(value, Image.Image) and value.mode != "F":
            files[name] = f"{stem}.{number}.out.png"
            # RGBA outputs are opaque: Core ML's pictures carry an alpha that says nothing
            value.convert("RGB").save(folder / files[name])
        elif isinstance(value, dict | str) or np.asarray(value).dtype.kind not in "fiub":
            continue
        else:
            files[name] = f"{stem}.{number}.f32"
            (folder / files[name]).write_bytes(np.ascontiguousarray(value, "<f4").tobytes())
        size += (folder / files[name]).stat().st_size
    return files, size


def encode(values: object) -> str:
    """Numbers as the app writes and reads them: base64 of little-endian 32-bit floats."""
    # little-endian, as every device is that Core ML runs on
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def decode(text: str) -> npt.NDArray[np.float32]:
    """What ``encode`` wrote, [n] float32. Raises InputError for text that is not that."""
    try:
        data = base64.b64decode(text, validate=True)
        return np.frombuffer(data, "<f4").astype(np.float32)
    except ValueError as error:
        raise InputError("numbers of a device's proof are damaged", found=str(error)) from None
