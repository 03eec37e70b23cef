"""``hf:OWNER/REPO[/FILE][?revision=...]``: files of the Hugging Face hub, from where its own library keeps them or the network.

Only what is named is fetched. The library resumes what was cut and asks the hub which commit a revision is; without a network it
gives what it kept. Which files there are is asked only where none is named.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import ModuleType
from urllib.parse import urlsplit
from urllib.request import getproxies

from coreproof.errors import InputError, UnreadableModelError, UnsafeModelError
from coreproof.model.files.entries import read_json
from coreproof.model.files.paths import file_name, stored_name
from coreproof.model.named.cache import cache_folder
from coreproof.model.named.query import read_query
from coreproof.model.optional import import_optional

MODEL_FILES = (".onnx", ".mlmodel", ".mlpackage", ".zip", ".pt2", ".pt", ".pth", ".ts")
"""How files end that are whole models as they lie there."""
OPTIONS = ("revision", "weights", "seed", "length", "size")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FORM = "hf:OWNER/REPO[/FILE][?revision=...]"
_PATIENCE = 10.0
"""Seconds without an answer after which there is no network."""


@dataclass(frozen=True)
class Repository:
    """A repository at a revision, as the user named it: ``where``. ``file`` is the one that was named in it."""

    name: str
    where: str
    file: str | None = None
    revision: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    def optional(self, file: str) -> Path | None:
        """One file of it; None where the repository has none of that name, or is not on this machine and has no network.

        Raises UnreadableModelError where the repository or the revision is not there or is not given to this user.
        """
        try:
            return self.path(file)
        except _Absent:
            return None

    def path(self, file: str) -> Path:
        """One file of it. Raises UnreadableModelError where it cannot be had, with the folder that was looked at."""
        hub = import_hub()
        offline = not _is_reached()
        with self._asking(file):
            kept = hub.hf_hub_download(
                self.name, file, revision=self.revision, etag_timeout=_PATIENCE, local_files_only=offline
            )
        return Path(kept)

    def files(self) -> list[str]:
        """The names of all its files: as the hub has them, else as they are kept."""
        hub = import_hub()
        if _is_reached():
            with suppress(Exception):  # without the right to see it what is kept has to do
                return sorted(hub.HfApi().list_repo_files(self.name, revision=self.revision))
        with self._asking("its list of files"):
            kept = Path(hub.snapshot_download(self.name, revision=self.revision, local_files_only=True))
        return sorted(p.relative_to(kept).as_posix() for p in kept.rglob("*") if p.is_file())

    @contextmanager
    def _asking(self, file: str) -> Iterator[None]:
        """What the library raises, in words of ours."""
        import_hub()
        errors = importlib.import_module("huggingface_hub.errors")
        kept = f"{file} in {_cache_place(self.name)}"
        try:
            yield
        except errors.LocalEntryNotFoundError as error:
            told = "the file is not kept on this machine, and the hub cannot be reached"
            fix = (
                "run it once with a network, or bring the folder of a machine that has it; HF_HOME names another place"
            )
            raise _Absent(told, where=self.where, expected=kept, found=_first(error), fix=fix) from error
        # behind the one before, which is a kind of it: a file that is not kept may well be on the hub
        except errors.EntryNotFoundError as error:
            told = "the repository has no such file"
            raise _Absent(told, where=self.where, expected=file, found=_first(error)) from error
        except Exception as error:  # the network, the disk, a cache that is damaged: each library under it has its own
            for kind, told, fix in _REFUSALS:
                if isinstance(error, getattr(errors, kind)):
                    raise UnreadableModelError(told, where=self.where, found=_first(error), fix=fix) from error
            raise UnreadableModelError(
                "the file cannot be had from the hub",
                where=self.where,
                expected=kept,
                found=f"{type(error).__name__}: {_first(error)}",
                fix="try again; where the kept files are damaged, delete that folder",
            ) from error


_REFUSALS = (
    (
        "GatedRepoError",
        "the repository is given to those who accepted its terms",
        "accept them on its page, and run: hf auth login",
    ),
    (
        "RepositoryNotFoundError",
        "the hub has no such repository, or does not show it to you",
        "check the name; for one of yours run: hf auth login",
    ),
    ("RevisionNotFoundError", "the repository has no such revision", "check ?revision="),
)
"""The library's error, what it means, and what to do; a gated repository is one that is not found, too, so it stands first."""


class _Absent(UnreadableModelError):
    """A file that is not there; what is optional may be absent."""


def read_repository(text: str) -> Repository:
    """Takes ``hf:OWNER/REPO[/FILE][?...]`` apart. Raises InputError for what is no such name."""
    rest, _, query = text.removeprefix("hf:").partition("?")
    options = read_query(query, OPTIONS, text)
    owner, _, behind = rest.partition("/")
    repository, _, file = behind.partition("/")
    for part in (owner, repository):
        if _PART.fullmatch(part) is None or ".." in part or "--" in part or part.endswith((".", "-", ".git")):
            raise InputError("this names no repository of the hub", where=text, expected=_FORM, found=part or "nothing")
    if file:
        try:
            file = stored_name(file.rstrip("/"), what="a file of a repository", where=text)
        except UnsafeModelError as error:
            raise InputError(
                "this names no file of a repository", where=text, expected=_FORM, found=error.found
            ) from None
        if not file.lower().endswith(MODEL_FILES):
            raise InputError(
                "this file of a repository is no model by itself",
                where=text,
                expected=f"a file that ends in {', '.join(MODEL_FILES)}",
                found=file,
                fix=f"for a network with its configuration and weights leave the file out: hf:{owner}/{repository}",
            )
    return Repository(f"{owner}/{repository}", text, file or None, options.pop("revision", None), options)


def model_file(repository: Repository, file: str) -> Path:
    """A file that is a model, with all that belongs to it beside it: an ONNX file's data, a package's items."""
    if repository.options:
        raise InputError(
            "these options are for a network, and not for a file",
            where=repository.where,
            expected="?revision=...",
            found=", ".join(repository.options),
        )
    if not file.lower().endswith(".mlpackage"):
        path = repository.path(file)
        data = _data_files(path) if file.lower().endswith(".onnx") else []
        if not data:
            return path
        # names in an ONNX file are relative to its own folder
        folder = PurePosixPath(file).parent
        names = [file, *(str(folder / name) for name in data)]
    else:
        names = [name for name in repository.files() if name.startswith(f"{file}/")]
        if not names:
            raise UnreadableModelError("the repository has no such package", where=repository.where, expected=file)
    return _together(repository, names) / file


SAFE = ("model.safetensors", "open_clip_model.safetensors")
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def weight_files(repository: Repository, *, trust: bool = False) -> list[Path]:
    """The files of a network's weights: its safetensors, or the pickles that the user trusts where there is nothing else.

    Of an index the files that it names follow it. Raises UnsafeModelError where there are pickles alone, UnreadableModelError.
    """
    # what is told in the end: the usual name, and not the last that was tried
    first: _Absent | None = None
    for name in (SAFE[0], INDEX, *SAFE[1:]):
        try:
            path = repository.path(name)
        except _Absent as error:
            first = first or error
            continue
        return [path, *(repository.path(part) for part in _parts(path, repository))] if name == INDEX else [path]
    pickled: list[str] = []
    with suppress(UnreadableModelError):
        pickled = [name for name in PICKLES if name in repository.files()]
    assert first is not None
    if not pickled:
        raise first
    if not trust:
        raise UnsafeModelError(
            "the weights of this repository are pickles alone: reading them could execute code from them",
            where=repository.where,
            expected=SAFE[0],
            found=pickled[0],
            fix="ask its owner for safetensors (the hub's converter makes them); "
            "or pass --trust (in Python: trust=True) if you know who made them",
        )
    path = repository.path(pickled[0])
    return [path, *(repository.path(part) for part in _parts(path, repository))] if pickled[0] == PICKLES[1] else [path]


def _parts(index: Path, repository: Repository) -> list[str]:
    """The files that an index of weights names, each once."""
    table = read_json(index, UnreadableModelError.of_file("the index of the weights cannot be read", repository.where))
    named = dict.fromkeys(entry.text() for entry in table["weight_map"].table().values())
    return [stored_name(name, what="a file of weights", where=repository.where) for name in named]


def choices(repository: Repository) -> list[str]:
    """What a user may have meant: the repository's files that are models as they lie there, a package once."""
    found = []
    for name in repository.files():
        parts = PurePosixPath(name).parts
        package = next((at for at, part in enumerate(parts) if part.endswith(".mlpackage")), None)
        if package is not None:
            found.append("/".join(parts[: package + 1]))
        elif name.lower().endswith((".onnx", ".mlmodel", ".mlpackage.zip", ".pt2")):
            found.append(name)
    return list(dict.fromkeys(found))


def _data_files(path: Path) -> list[str]:
    """What an ONNX file calls the files of its weights, as far as they lie in its folder; the rest is refused as it is read."""
    from coreproof.model.onnx.external_data import data_files

    kept = []
    for name in data_files(path):
        with suppress(UnsafeModelError):
            kept.append(stored_name(name, what="a data file", where=path))
    return kept


def _together(repository: Repository, names: Sequence[str]) -> Path:
    """A folder of ours with copies of these files: the library keeps each elsewhere, and no link that leads out is followed.

    Hard links would take no room, but onnx-ir refuses those too, since nobody can tell what they lead to.
    """
    # whoever serves the list of files chose these names
    safe = [stored_name(name, what="a file of a repository", where=repository.where) for name in names]
    paths = {name: repository.path(name) for name in safe}
    first = next(iter(paths.values()))
    # the library keeps a repository's files in a folder for each commit
    commit = first.parents[len(PurePosixPath(names[0]).parts) - 1].name
    folder = cache_folder() / "hub" / file_name(repository.name.replace("/", "--")) / file_name(commit)
    for name, path in paths.items():
        source, target = path.resolve(), folder / name
        # of one commit, so that a file of this size is this file
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            fresh = Path(scratch) / "file"
            shutil.copyfile(source, fresh)
            # whole or not at all: another process may copy the same
            os.replace(fresh, target)
    return folder


def import_hub() -> ModuleType:
    """The hub's library, which fetches and keeps what ``hf:`` and ``timm:`` name; or the line that installs it."""
    return import_optional("huggingface_hub", "huggingface_hub, which fetches what hf: and timm: name,", "hub")


def _is_reached() -> bool:
    """Whether the hub's host answers at all: its library would try again for half a minute, for each file anew."""
    constants = importlib.import_module("huggingface_hub.constants")
    endpoint = urlsplit(str(constants.ENDPOINT))
    if constants.HF_HUB_OFFLINE:
        return False
    if endpoint.hostname is None or getproxies().get(endpoint.scheme):  # a proxy finds the host
        return True
    try:
        port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
        socket.create_connection((endpoint.hostname, port), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


def _cache_place(name: str) -> Path:
    """Where the library keeps a repository."""
    constants = importlib.import_module("huggingface_hub.constants")
    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
