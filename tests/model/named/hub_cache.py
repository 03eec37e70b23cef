"""A cache of the Hugging Face hub as its library keeps it, made by a test; and a stand-in for the library where it is absent."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def keep(cache: Path, repository: str, files: dict[str, bytes], revision: str = "main") -> Path:
    """Files of a repository, each a link to its content, as the library has them; returns the folder of the commit."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(COMMIT)
    for name, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        place = folder / "snapshots" / COMMIT / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(blob)
    return folder / "snapshots" / COMMIT


def stand_in(cache: Path) -> dict[str, ModuleType]:
    """Of ``huggingface_hub`` what coreproof calls, without a network: files that are kept, and the errors for all others."""
    hub, errors, constants = (ModuleType(f"huggingface_hub{part}") for part in ("", ".errors", ".constants"))
    entry = type("EntryNotFoundError", (Exception,), {})
    errors.EntryNotFoundError = entry  # type: ignore[attr-defined]
    errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (FileNotFoundError, entry), {})  # type: ignore[attr-defined]
    for name in ("GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError"):
        setattr(errors, name, type(name, (OSError,), {}))
    constants.HF_HUB_CACHE = str(cache)  # type: ignore[attr-defined]
    constants.HF_HUB_OFFLINE, constants.ENDPOINT = True, "https://hub.invalid"  # type: ignore[attr-defined]

    def snapshot(name: str, revision: str | None = None, **_: object) -> str:
        folder = cache / f"models--{name.replace('/', '--')}"
        said = folder / "refs" / (revision or "main")
        found = folder / "snapshots" / (said.read_text() if said.is_file() else str(revision))
        if not found.is_dir():
            raise errors.LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder")  # type: ignore[attr-defined]
        return str(found)

    def file(name: str, filename: str, revision: str | None = None, **_: object) -> str:
        found = Path(snapshot(name, revision)) / filename
        if not found.is_file():
            raise errors.LocalEntryNotFoundError("We cannot find the requested files in the local cache")  # type: ignore[attr-defined]
        return str(found)

    class Api:
        def list_repo_files(self, *_: object, **__: object) -> list[str]:
            raise ConnectionError("offline")

    hub.hf_hub_download, hub.snapshot_download, hub.HfApi = file, snapshot, Api  # type: ignore[attr-defined]
    hub.errors, hub.constants = errors, constants  # type: ignore[attr-defined]
    return {module.__name__: module for module in (hub, errors, constants)}


_THERE = {name: importlib.util.find_spec(name) is not None for name in ("huggingface_hub", "timm", "transformers")}


def is_installed(name: str) -> bool:
    """Whether a library is there itself; looked up before any stand-in takes its name."""
    return _THERE[name]
