"""What was found, kept as small files: of a mutant only what differs from the healthy case, and what it is in about.json."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from conformance.fuzz.damage import mutant
from conformance.fuzz.files import Case, Files, read, write
from conformance.fuzz.kinds import KINDS
from conformance.fuzz.run import Record, Server
from conformance.fuzz.smaller import smaller

LARGEST = 2048
"""Bytes of a file that is kept."""
_WRITTEN_BY_COREPROOF = ("recording", "store")
"""Kinds whose healthy files change with coreproof: what differs from them would soon fit no more."""
ABOUT = "about.json"


def collect(record: Record, server: Server, folder: Path, tries: int = 150) -> list[str]:
    """Keeps the first mutant of each failure of a record, made smaller; the keys of those that stay too large."""
    large = []
    for key, failure in record.failures.items():
        kind, number = failure["kind"], failure["number"]
        case, files, what = mutant(record.seed, kind, number, KINDS[kind].cases)
        first = {
            "verb": failure["verb"],
            "error": key.partition("@")[0],
            "place": key.partition("@")[2],
            "end": "failed",
        }
        files = smaller(server, record.seed, kind, number, case, files, [first], tries)
        if not keep(
            folder / _name(key, kind, number), kind, case, files, key=key, message=failure["message"], what=what
        ):
            large.append(key)
    return large


def keep(folder: Path, kind: str, case: Case, files: Files, **about: Any) -> bool:
    """Writes what differs from the case; False, and nothing, where that is too large or no plain file."""
    whole: dict[str, bytes] = {}
    patches: dict[str, Any] = {}
    for name, content in files.items():
        healthy = case.files.get(name)
        if not isinstance(content, bytes):
            return False
        if content != healthy and len(content) < LARGEST:
            whole[name] = content
        elif content != healthy:
            patches[name] = None if healthy is None else _patch(healthy, content)
    gone = sorted(set(case.files) - set(files))
    document = {"kind": kind, "case": case.name, "gone": gone, "patches": patches, **about}
    text = json.dumps(document, indent=1, ensure_ascii=True) + "\n"
    if None in patches.values() or len(text) >= LARGEST or (patches and kind in _WRITTEN_BY_COREPROOF):
        return False
    write({**whole, ABOUT: text.encode()}, folder)
    return True


def restore(folder: Path, cases: Mapping[str, Case]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What stands in about.json, and the files of the mutant, healthy ones included. ``cases`` are those of its kind."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    healthy = cases[about["case"]].files
    changed = {name: content for name, content in read(folder).items() if name != ABOUT}
    changed |= {name: _patched(healthy[name], patch, folder) for name, patch in about["patches"].items()}
    return about, {n: c for n, c in {**healthy, **changed}.items() if n not in about["gone"]}


def _patch(healthy: bytes, content: bytes) -> dict[str, Any]:
    """What makes the one of the other: stretches of bytes to be replaced, last first."""
    steps = SequenceMatcher(None, healthy, content, autojunk=False).get_opcodes()
    changes = [[a, b, content[c:d].hex()] for kind, a, b, c, d in steps if kind != "equal"]
    return {"of": hashlib.sha256(healthy).hexdigest()[:16], "changes": changes[::-1]}


def _patched(healthy: bytes, patch: Mapping[str, Any], folder: Path) -> bytes:
    if hashlib.sha256(healthy).hexdigest()[:16] != patch["of"]:
        raise ValueError(f"{folder.name} was made from a healthy file that is another now: delete it, or make it anew")
    for start, end, new in patch["changes"]:
        healthy = healthy[:start] + bytes.fromhex(new) + healthy[end:]
    return healthy


def _name(key: str, kind: str, number: int) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", f"{key.rpartition(':')[0] or key}_{kind}{number}")
