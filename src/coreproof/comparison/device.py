"""device.json: what a phone answered, as one more model of a comparison."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coreproof.comparison.source import Listed, PhotoSource
from coreproof.errors import LineupError, PhotoError
from coreproof.model.files.entries import Entry, read_json, short

FORMAT = "coreproof device 1"


@dataclass(frozen=True, eq=False)
class DeviceRun:
    """One processor of one device over the photos of its app.

    ``answers`` are [classes] float32 probabilities by photo; ``fingerprint`` tells the stored model that ran. ``milliseconds``
    is the time of one prediction.
    """

    device: str
    system: str
    processor: str
    model: str
    fingerprint: str
    labels: tuple[str, ...]
    milliseconds: float
    answers: Mapping[str, npt.NDArray[np.float32]]

    @property
    def name(self) -> str:
        """How a matrix calls it: "iPhone15,2 CPU"."""
        return f"{self.device} {self.processor}"

    @property
    def engine(self) -> str:
        """Who computed, for reports."""
        return f"Core ML on {self.device}, {self.system}, {self.processor}"


class SeenByDevices(PhotoSource):
    """The photos of a source that every device saw."""

    def __init__(self, source: PhotoSource, runs: Sequence[DeviceRun]) -> None:
        self.source = source
        self.where = source.where
        self.runs = runs

    def listed(self) -> Iterator[Listed]:
        """Those photos. Raises PhotoError where there are none."""
        names: list[str] = []
        seen = 0
        for listed in self.source.listed():
            # the first three, for the error: a listing may be of any length
            names = names if len(names) == 3 else [*names, listed.photo]
            if all(listed.photo in run.answers for run in self.runs):
                seen += 1
                yield listed
        if not seen and names:
            raise PhotoError(
                "the devices saw none of these photos",
                where=self.where,
                expected=", ".join(sorted(self.runs[0].answers)[:3]) or "photos that an app carries",
                found=", ".join(sorted(names)),
                fix="give the folder of photos that the app was made with",
            )

    def read(self, photo: str) -> bytes:
        """The bytes of a photo, from the source."""
        return self.source.read(photo)


def read_device(path: str | Path) -> tuple[DeviceRun, ...]:
    """The runs of a device.json that an app exported, one a processor. Raises LineupError for any other file."""
    path = Path(path)

    damaged = LineupError.of_file("the device's proof is damaged, or cannot be read", path)

    document = read_json(path, damaged)
    said = document.value.get("format", "no format") if isinstance(document.value, dict) else "another kind of JSON"
    if said != FORMAT:
        # of a later coreproof: the number behind is another
        newer = isinstance(said, str) and said.startswith(FORMAT.rstrip("0123456789"))
        raise LineupError(
            "this is not a device's proof",
            where=str(path),
            expected=f'the device.json that an app of coreproof exports ("format": "{FORMAT}")',
            found=short(said),
            fix="update coreproof" if newer else None,
        )
    runs = tuple(_run(document, run) for run in document["runs"].each() if run["scores"].table())
    if not runs:
        raise LineupError(
            "no run of this device's proof has class scores",
            where=str(path),
            expected="the proof of an app around a classifier",
            fix="an app around another model says itself whether the device agrees",
        )
    return runs


def _run(document: Entry, run: Entry) -> DeviceRun:
    device = document["device"]
    labels = tuple(label.text() for label in document["labels"].each())
    answers = {photo: _scores(stored) for photo, stored in run["scores"].table().items()}
    sizes = {answer.size for answer in answers.values()}
    # one row of scores a photo, as long as the labels
    if len(sizes) != 1 or (labels and sizes != {len(labels)}):
        raise run["scores"].refuse(f"{len(labels)} scores a photo, one a label", f"{sorted(sizes)} scores")
    return DeviceRun(
        device=device["machine"].text(),
        system=device["system"].text(),
        processor=run["processor"].text(),
        model=document["model"].text(),
        fingerprint=document["fingerprint"].text(),
        labels=labels,
        milliseconds=run["milliseconds"].number(),
        answers=answers,
    )


def _scores(stored: Entry) -> npt.NDArray[np.float32]:
    """The scores of one photo: float32 numbers, as base64."""
    try:
        return np.frombuffer(base64.b64decode(stored.text(), validate=True), "<f4").astype(np.float32)
    except ValueError as error:  # binascii.Error is one
        raise stored.refuse("float32 numbers as base64", str(error)) from None
