"""Where photos come from: a folder, some files of it, or an object store; listed one by one, read by name."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from coreproof.errors import MissingDependencyError, PhotoError
from coreproof.feeding.photos import SUFFIXES, Photos, require_folder
from coreproof.feeding.pictures import require_picture_file
from coreproof.model.files.paths import stored_name
from coreproof.model.optional import import_optional


@dataclass(frozen=True)
class Listed:
    """A photo as it is listed. ``version`` changes when the file is written anew; equal versions mean equal bytes.

    An empty one says nothing: what is in the file tells.
    """

    photo: str
    size: int
    version: str


class PhotoSource(ABC):
    """A collection of photos of any size. ``where`` is how a person calls it."""

    where: str

    @abstractmethod
    def listed(self) -> Iterator[Listed]:
        """Every photo, in any order, none held in memory. Raises PhotoError where the collection cannot be listed."""

    @abstractmethod
    def read(self, photo: str) -> bytes:
        """The file of a photo. Raises PhotoError, as for one that vanished since it was listed."""


def photo_source(photos: Photos | PhotoSource | str | Path) -> PhotoSource:
    """The source that a person means: a folder, listed photos of one, or an address such as ``s3://bucket/folder``."""
    if isinstance(photos, PhotoSource):
        return photos
    if isinstance(photos, Photos):
        return ListedPhotos(photos)
    if "://" in str(photos):
        return RemotePhotos(str(photos))
    return FolderPhotos(photos)


def content_digest(content: bytes) -> str:
    """What tells one file's bytes from another's."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


class FolderPhotos(PhotoSource):
    """The pictures in a folder and its subfolders, hidden ones left out."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.where = str(folder)
        require_folder(self.folder)

    def listed(self) -> Iterator[Listed]:
        """The pictures of a folder, then those of the folders in it, as the system lists them. Raises PhotoError."""
        return self._below(self.folder, "")

    def _below(self, folder: Path, prefix: str) -> Iterator[Listed]:
        folders: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.startswith("."):
                            folders.append(entry.name)
                    elif _is_picture(entry.name):
                        listed = _listed(prefix + entry.name, entry)
                        if listed is not None:
                            yield listed
        except OSError as error:
            if prefix and isinstance(error, FileNotFoundError):
                return
            raise PhotoError("a folder of photos cannot be listed", where=str(folder), found=error.strerror) from None
        for name in folders:
            yield from self._below(folder / name, f"{prefix}{name}/")

    def read(self, photo: str) -> bytes:
        """The bytes of a picture. Raises PhotoError."""
        return _read(self.folder, photo)


class ListedPhotos(PhotoSource):
    """Chosen files of a folder."""

    def __init__(self, photos: Photos) -> None:
        self.photos = photos
        self.where = str(photos.folder)

    def listed(self) -> Iterator[Listed]:
        """The chosen files in their order, whether they can be read or not."""
        for file in self.photos.files:
            name = self.photos.name(file)
            yield _listed(name, file) or Listed(_as_text(name), 0, "")  # whoever wants to read it will say so

    def read(self, photo: str) -> bytes:
        """The bytes of a picture. Raises PhotoError."""
        return _read(self.photos.folder, photo)


class RemotePhotos(PhotoSource):
    """The pictures below an address that fsspec knows: ``s3://``, ``gs://``, ``https://``, ``memory://`` ..."""

    def __init__(self, address: str) -> None:
        fsspec = import_optional("fsspec", "fsspec", "remote")
        self.where = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise MissingDependencyError(
                "photos at this address need a package that is not installed",
                where=address,
                found=str(error),
                fix="pip install 'coreproof[remote]'",
            ) from None
        # names are what follows the root and a slash
        self._root = self._root.rstrip("/")

    def listed(self) -> Iterator[Listed]:
        """The pictures below the address."""

        def failed(error: OSError) -> None:
            raise error

        try:
            # a listing that was kept would hide what was added since
            self._files.invalidate_cache()
            for folder, _, files in self._files.walk(self._root, detail=True, on_error=failed):
                below = folder.removeprefix(self._root).strip("/")
                if any(part.startswith(".") for part in below.split("/")):
                    continue
                for name, about in files.items():
                    if _is_picture(name):
                        yield Listed(f"{below}/{name}" if below else name, int(about["size"] or 0), _version(about))
        except Exception as error:  # what an object store raises has no common class
            raise PhotoError("the photos cannot be listed", where=self.where, found=_text(error)) from None

    def labels(self) -> bytes | None:
        """The labels.csv beside the photos, None where there is none."""
        try:
            return self.read("labels.csv") if self._files.exists(f"{self._root}/labels.csv") else None
        except Exception as error:  # what an object store raises has no common class
            raise PhotoError("the photos cannot be listed", where=self.where, found=_text(error)) from None

    def read(self, photo: str) -> bytes:
        """The bytes of a picture, fetched. Raises PhotoError."""
        stored_name(photo, what="a photo", where=self.where, error=PhotoError, drives=True)
        try:
            return bytes(self._files.cat_file(f"{self._root}/{photo}"))
        except FileNotFoundError:
            raise PhotoError("there is no such picture", where=f"{self.where}/{photo}") from None
        except Exception as error:  # what an object store raises has no common class
            raise PhotoError(
                "the picture cannot be fetched", where=f"{self.where}/{photo}", found=_text(error)
            ) from None


def _version(about: Mapping[str, object]) -> str:
    """What an object store says of a file's state: its tag where there is one, else when it was written."""
    keys = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")
    return next((str(about[key]) for key in keys if about.get(key)), "")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _listed(name: str, file: os.DirEntry[str] | Path) -> Listed | None:
    """None for what is no file, or vanished since its name was read. One that cannot be looked at is read in vain later."""
    try:
        about = file.stat() if file.is_file() else None
    except FileNotFoundError:
        return None
    except OSError:  # as of a link to itself
        return Listed(_as_text(name), 0, "")
    return None if about is None else Listed(_as_text(name), about.st_size, str(about.st_mtime_ns))


def _as_text(name: str) -> str:
    r"""A file's name as any file can hold it: bytes that are no UTF-8, which Linux allows in names, become ``\xe9``."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def _as_named(name: str) -> str:
    """The file's name that ``_as_text`` made ``name`` of."""
    pieces = re.split(r"\\x([89a-f][0-9a-f])", name)
    return os.fsdecode(b"".join(bytes.fromhex(p) if k % 2 else os.fsencode(p) for k, p in enumerate(pieces)))


def _read(folder: Path, photo: str) -> bytes:
    # the name may come out of a store: it is no way out of the folder (a link inside is whoever's who made the folder)
    stored_name(photo, what="a photo", where=folder, error=PhotoError, drives=True)
    path = folder / photo
    try:
        if "\\x" in photo and not path.exists():
            path = folder / _as_named(photo)
        return require_picture_file(path).read_bytes()
    except FileNotFoundError:
        raise PhotoError("there is no such picture", where=str(path)) from None
    except OSError as error:
        raise PhotoError("the picture cannot be read", where=str(path), found=error.strerror) from None
