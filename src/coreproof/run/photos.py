"""A folder of pictures as a sorted list, with the truth about each where a labels.csv tells it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coreproof.errors import PhotoError

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif"]
)


@dataclass(frozen=True)
class Truth:
    """What a photo shows: the class index, and the class's name where it is told."""

    index: int
    name: str = ""


@dataclass(frozen=True)
class Photos:
    """The pictures of a folder, sorted by name; ``truth`` by name relative to the folder."""

    folder: Path
    files: tuple[Path, ...]
    truth: Mapping[str, Truth] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.name(file) for file in self.files)

    def name(self, file: Path) -> str:
        """A file's name relative to the folder, with forward slashes."""
        return file.relative_to(self.folder).as_posix()


def list_photos(folder: str | Path, labels: str | Path | None = None) -> Photos:
    """The pictures in a folder and its subfolders, hidden ones left out.

    ``labels`` is a csv with the columns file, class index, synset, name; None takes the folder's own labels.csv
    where there is one. Raises PhotoError where there is no folder or no picture in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise PhotoError("there is no such folder of photos", where=str(root))
    files = tuple(
        sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
            and path.is_file()
        )
    )
    if not files:
        raise PhotoError("there are no photos in the folder", where=str(root), expected=" ".join(sorted(SUFFIXES)))
    own = root / "labels.csv"
    if labels is None and own.is_file():
        labels = own
    return Photos(root, files, {} if labels is None else read_truth(labels))


def read_truth(path: str | Path) -> dict[str, Truth]:
    """A labels.csv: file, class index, synset, name, with a heading; only the first two columns are needed."""
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PhotoError("the labels of the photos cannot be read", where=str(path), found=str(error)) from None
    if not rows:
        raise PhotoError("the labels of the photos are empty", where=str(path))
    heading = [cell.strip().lower().replace(" ", "_") for cell in rows[0]]
    columns = {name: heading.index(name) for name in ("file", "class_index", "name") if name in heading}
    if "file" not in columns or "class_index" not in columns:
        raise PhotoError(
            "the labels of the photos have other columns",
            where=str(path),
            expected="file, class_index, synset, name",
            found=", ".join(rows[0]),
        )
    truth: dict[str, Truth] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        try:
            name = row[columns["name"]] if "name" in columns and len(row) > columns["name"] else ""
            truth[row[columns["file"]]] = Truth(int(row[columns["class_index"]]), name.replace("_", " ").strip())
        except (IndexError, ValueError):
            raise PhotoError(
                "a line of the photos' labels cannot be read",
                where=f"{path}, line {line}",
                expected="file, class index (a whole number), synset, name",
                found=",".join(row),
            ) from None
    return truth


def fingerprint(photos: Photos, files: tuple[Path, ...]) -> str:
    """Changes when a file of this slice is renamed, replaced or edited."""
    digest = hashlib.blake2b(digest_size=12)
    for file in files:
        digest.update(photos.name(file).encode() + b"\0")
        digest.update(hashlib.blake2b(file.read_bytes(), digest_size=16).digest())
    return digest.hexdigest()
