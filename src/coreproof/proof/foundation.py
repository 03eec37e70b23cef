"""What a proof rests on: digests of the source, of the models it made and of what it fed, and its options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coreproof.feeding.photos import Photos
from coreproof.feeding.proof_feeds import ProofFeeds
from coreproof.model.base import Model
from coreproof.model.digest import model_digest
from coreproof.model.feeding import Feeding
from coreproof.model.files.entries import Entry
from coreproof.model.onnx.data_files import data_file
from coreproof.model.recorded_header import feeding_from
from coreproof.verification.content import digest as value_digest


@dataclass(frozen=True)
class Foundation:
    """What has to be the same for a proof to hold, and what it takes to repeat it.

    ``source`` is the digest of the source's content, ``models`` short name to place below the proof's folder and digest.
    ``fed`` is "photos", "arrays" or "drawn", ``inputs`` the digest of all of them (empty: they are drawn from the same seed).
    ``options`` are those of ``prove`` that decide what is made and how it is judged, ``feeding`` is how photos were fed.
    """

    source: str
    models: Mapping[str, tuple[str, str]]
    fed: str
    count: int
    inputs: str
    options: Mapping[str, object] = field(default_factory=dict)
    feeding: Feeding | None = None

    def to_json(self) -> dict[str, object]:
        """What proof.json holds of it."""
        models = {name: {"file": file, "digest": digest} for name, (file, digest) in self.models.items()}
        return {**asdict(self), "models": models}

    @classmethod
    def read(cls, entry: Entry) -> Foundation:
        """The same, read back from a file that others may have written. Raises what the entry's reader makes."""
        models = {name: (m["file"].text(), m["digest"].text()) for name, m in entry["models"].table().items()}
        options = {name: option.value for name, option in entry["options"].table().items()}
        source, fed, inputs = (entry[name].text() for name in ("source", "fed", "inputs"))
        feeding = entry["feeding"].optional(feeding_from)
        return cls(source, models, fed, entry["count"].whole(), inputs, options, feeding)


def foundation_of(
    source: Model,
    photos: Photos | None,
    fed: ProofFeeds,
    stored: Mapping[str, str],
    folder: Path,
    options: Mapping[str, object],
) -> Foundation:
    """The foundation of a proof whose models stand ``stored`` below ``folder``."""
    digests = {name: (place, file_digest(folder / place)) for name, place in stored.items()}
    kind = "photos" if photos is not None else "arrays" if fed.given is not None else "drawn"
    count = len(photos.files) if photos is not None else len(fed.given or ())
    inputs = inputs_digest(photos, fed)
    return Foundation(model_digest(source), digests, kind, count, inputs, dict(options), fed.feeding)


def inputs_digest(photos: Photos | None, fed: ProofFeeds) -> str:
    """Changes with any photo or array, its name and its place in their order; empty where inputs are drawn."""
    whole = hashlib.blake2b(digest_size=16)
    if photos is not None:
        for file in photos.files:
            whole.update(photos.name(file).encode() + b"\0")
            with file.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, hashlib.blake2b).digest())
        return whole.hexdigest()
    if fed.given is None:
        return ""
    for sample in fed.given:
        for name, value in sorted(sample.items()):
            whole.update(name.encode() + b"\0" + value_digest(value))
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """Changes with any byte of a file, or of the files of a package but for its manifest, which holds random identifiers."""
    whole = hashlib.blake2b(digest_size=16)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    beside = data_file(path)
    for file in [*files, *([beside] if beside.is_file() else [])]:
        if file.name != "Manifest.json":
            whole.update(file.relative_to(path.parent).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, hashlib.blake2b).digest())
    return whole.hexdigest()
