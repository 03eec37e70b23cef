"""device.json: what a phone answered, as one more model of a comparison."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.compare.source import Listed, PhotoSource
from coreproof.errors import LineupError, PhotoError

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
        names: list[str] = []
        seen = 0
        for listed in self.source.listed():
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
        return self.source.read(photo)


def read_device(path: str | Path) -> tuple[DeviceRun, ...]:
    """The runs of a device.json that an app exported, one a processor. Raises LineupError for any other file."""
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LineupError("the device's proof cannot be read", where=str(path), found=str(error)) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise LineupError(
            "this is not a device's proof",
            where=str(path),
            expected=f'the device.json that an app of coreproof exports ("format": "{FORMAT}")',
            found=document.get("format", "no format") if isinstance(document, dict) else "another kind of JSON",
        )
    try:
        runs = tuple(_run(document, run) for run in document["runs"] if run["scores"])
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise LineupError(
            "the device's proof is damaged", where=str(path), found=f"{type(error).__name__}: {error}"
        ) from None
    if not runs:
        raise LineupError(
            "no run of this device's proof has class scores",
            where=str(path),
            expected="the proof of an app around a classifier",
            fix="an app around another model says itself whether the device agrees",
        )
    return runs


def _run(document: Mapping[str, Any], run: Mapping[str, Any]) -> DeviceRun:
    device = document["device"]
    answers = {
        str(photo): np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
        for photo, text in run["scores"].items()
    }
    sizes = {answer.size for answer in answers.values()}
    if len(sizes) != 1 or (document["labels"] and sizes != {len(document["labels"])}):
        raise ValueError(f"{len(document['labels'])} labels, and answers of {sorted(sizes)} scores")
    return DeviceRun(
        device=str(device["machine"]),
        system=str(device["system"]),
        processor=str(run["processor"]),
        model=str(document["model"]),
        fingerprint=str(document["fingerprint"]),
        labels=tuple(map(str, document["labels"])),
        milliseconds=float(run["milliseconds"]),
        answers=answers,
    )
