"""The healthy files of all kinds on disk, built once for all workers of a run."""

from __future__ import annotations

import json
from pathlib import Path

from conformance.fuzz.files import Case, read, write
from conformance.fuzz.kinds import KINDS


def lay_seeds(folder: Path) -> None:
    """Writes every case into a folder of its own, the photos, and what the cases are called."""
    from conformance.fuzz.cases_documents import photos

    for kind in KINDS.values():
        for case in kind.cases:
            write(case.files, folder / kind.name / case.name)
    write(photos(), folder / "photos")
    index = {kind.name: [[case.name, case.main, case.weight] for case in kind.cases] for kind in KINDS.values()}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def read_seeds(folder: Path) -> dict[str, list[Case]]:
    """The cases that ``lay_seeds`` wrote, by kind."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return {
        kind: [Case(name, read(folder / kind / name), main, weight) for name, main, weight in cases]
        for kind, cases in index.items()
    }
