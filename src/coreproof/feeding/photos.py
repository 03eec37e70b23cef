"""A folder of pictures as a sorted list, with the truth about each where a labels.csv tells it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

from coreproof.errors import PhotoError
from coreproof.model.files.paths import meant, regular_file

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif"]
)
_LARGEST_INDEX = 2**31 - 1
_COLUMNS = ("file", "class_index", "name", "picture")


@dataclass(frozen=True)
class Truth:
    """What a photo shows: the class index (-1 where it is not told), and the class's name where that is told.

    ``picture``: what it is a crop or another version of (empty: of nothing); photos of one picture are one piece of evidence.
    """

    index: int
    name: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Photos:
    """The pictures of a folder, sorted by name; ``truth`` by name relative to the folder."""

    folder: Path
    files: tuple[Path, ...]
    truth: Mapping[str, Truth] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, in their order."""
        return tuple(self.name(file) for file in self.files)

    def spread(self, limit: int | None) -> Photos:
        """At most ``limit`` of them, evenly over the folder: neighbours in it are often alike."""
        count = len(self.files)
        if limit is None or limit >= count:
            return self
        return replace(self, files=tuple(self.files[int(at * count / limit)] for at in range(limit)))

    def name(self, file: Path) -> str:
        """A file's name relative to the folder, with forward slashes."""
        return file.relative_to(self.folder).as_posix()


def list_photos(folder: str | Path, labels: str | Path | None = None) -> Photos:
    """The pictures in a folder and its subfolders, hidden ones left out.

    ``labels`` is a csv with the columns file, class index, synset, name, picture; None takes the folder's own labels.csv
    where there is one. Raises PhotoError where there is no folder or no picture in it.
    """
    root = Path(folder)
    require_folder(root)
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
        raise no_photos(str(root), root)
    own = root / "labels.csv"
    if labels is None and own.is_file():
        labels = own
    return Photos(root, files, {} if labels is None else read_truth(labels))


def given_photos(places: Sequence[Path]) -> list[tuple[Path, str]]:
    """Pictures and folders of them in the order given, each picture with the name it is shown by.

    Raises PhotoError where nothing is given, and for a folder without pictures, or called as a picture is. Files are not
    looked at yet.
    """
    if not places:
        raise PhotoError(
            "there are no photos", expected="pictures, or a folder of them", fix="PHOTO..., or --photos FOLDER"
        )
    found: list[tuple[Path, str]] = []
    for place in places:
        if place.is_dir():
            # a link of that name may lead to a whole disk
            if place.suffix.lower() in SUFFIXES:
                raise PhotoError(
                    "the picture is a folder", where=str(place), fix="name the folder without the ending of a picture"
                )
            listed = list_photos(place)
            found += [(file, listed.name(file)) for file in listed.files]
        else:
            found.append((place, place.name))
    return found


def require_folder(folder: Path) -> None:
    """Raises PhotoError for what is no folder."""
    if folder.is_file():
        raise PhotoError("the photos are a folder", where=str(folder), found="a file", fix=f"give {folder.parent}")
    if not folder.is_dir():
        raise PhotoError("there is no such folder of photos", where=str(folder), fix=meant(folder, Path.is_dir))


def no_photos(where: str, folder: Path | None = None) -> PhotoError:
    """What a person is told where there is no picture that can be read, and what is in the ``folder`` instead."""
    files = () if folder is None else (path for path in folder.rglob("*") if path.is_file())
    kinds = Counter(path.suffix.lower() or path.name for path in files if not path.name.startswith("."))
    # an iPhone's own format: the likeliest reason for a folder without pictures
    heic = any(kind in (".heic", ".heif") for kind in kinds)
    return PhotoError(
        "there are no photos in the folder",
        where=where,
        expected=" ".join(sorted(SUFFIXES)),
        found=", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3)) or None,
        fix="export the photos of the phone as JPEG: HEIC is not read" if heic else None,
    )


def read_truth(path: str | Path) -> dict[str, Truth]:
    """A labels.csv as a whole: what ``truth_lines`` reads, by file name."""
    return dict(truth_lines(path))


def truth_lines(path: str | Path, content: bytes | None = None) -> Iterator[tuple[str, Truth]]:
    """A labels.csv line by line: file, class index, synset, name, picture, with a heading; only the first two are needed.

    ``picture`` names what a photo is a crop of; where it stands there, the class may be left out.
    ``content``: the file's bytes where they are at hand; ``path`` is then only its name. Raises PhotoError for a file that
    cannot be read or holds something else.
    """
    if content is None:
        regular_file(path, what="the labels of the photos", error=PhotoError)
    try:
        with (
            Path(path).open("rb") if content is None else BytesIO(content) as stored,
            # utf-8-sig: spreadsheets write a byte order mark
            TextIOWrapper(stored, encoding="utf-8-sig", newline="") as stream,
        ):
            rows = csv.reader(stream)
            columns = _columns(path, next(rows, None))
            for row in rows:
                if row:
                    yield _truth(f"{path}, line {rows.line_num}", row, columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PhotoError("the labels of the photos cannot be read", where=str(path), found=str(error)) from None


def _columns(path: str | Path, heading: list[str] | None) -> dict[str, int]:
    if heading is None:
        raise PhotoError("the labels of the photos are empty", where=str(path))
    names = [cell.strip().lower().replace(" ", "_") for cell in heading]
    columns: dict[str, int] = {name: names.index(name) for name in _COLUMNS if name in names}
    if "file" not in columns or not {"class_index", "picture"} & set(columns):
        raise PhotoError(
            "the labels of the photos have other columns",
            where=str(path),
            expected="file, class_index, synset, name, picture",
            found=", ".join(heading),
        )
    return columns


def _truth(where: str, row: list[str], columns: Mapping[str, int]) -> tuple[str, Truth]:
    try:
        name, picture = (row[columns[c]] if c in columns and len(row) > columns[c] else "" for c in ("name", "picture"))
        told = row[columns["class_index"]].strip() if "class_index" in columns else ""
        # where the picture is named, the class may be left out
        index = int(told) if told or not picture.strip() else -1
        if abs(index) > _LARGEST_INDEX:
            raise ValueError(index)
        return row[columns["file"]], Truth(index, name.replace("_", " ").strip(), picture.strip())
    except (IndexError, ValueError):
        raise PhotoError(
            "a line of the photos' labels cannot be read",
            where=where,
            expected="file, class index (a whole number), synset, name, picture",
            found=",".join(row),
        ) from None
