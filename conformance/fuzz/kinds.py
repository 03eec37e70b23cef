"""The kinds of mutants: their healthy cases, how many of a run they are, and the verbs that each goes through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from conformance.fuzz import cases_documents as documents
from conformance.fuzz import verbs
from conformance.fuzz import verbs_documents as around
from conformance.fuzz.cases_coreai import aimodel_cases
from conformance.fuzz.cases_coreml import mlmodel_cases
from conformance.fuzz.cases_onnx import onnx_cases
from conformance.fuzz.cases_program import mlpackage_cases
from conformance.fuzz.files import Case
from conformance.fuzz.verbs import Verb
from coreproof.model.coreai.child import has_packages


@dataclass(frozen=True)
class Kind:
    """``share``: how many of 100 mutants are of this kind."""

    name: str
    make: Callable[[], list[Case]]
    verbs: tuple[Verb, ...]
    share: int

    @cached_property
    def cases(self) -> list[Case]:
        """The healthy cases, built once."""
        return self.make()


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("onnx", onnx_cases, verbs.ONNX, 24),
        Kind("mlmodel", mlmodel_cases, verbs.COREML, 20),
        Kind("mlpackage", mlpackage_cases, verbs.COREML, 16),
        # read and written by Apple's package alone
        *([Kind("aimodel", aimodel_cases, verbs.COREAI, 4)] if has_packages() else []),
        Kind("pt2", documents.program_cases, verbs.TORCH, 4),
        Kind("script", documents.script_cases, verbs.SCRIPT, 2),
        Kind("recording", documents.recording_cases, verbs.RECORDING, 6),
        Kind("inputs", documents.inputs_cases, around.INPUTS, 2),
        Kind("folder", documents.folder_cases, around.FOLDER, 3),
        Kind("edits", documents.edits_cases, around.EDITS, 10),
        Kind("lineup", documents.lineup_cases, around.LINEUP, 4),
        Kind("device", documents.device_cases, around.DEVICE, 2),
        Kind("store", documents.store_cases, around.STORE, 3),
        Kind("photo", documents.photo_cases, around.PHOTO, 2),
        Kind("labels", documents.label_cases, around.LABELS, 2),
    )
}


def schedule(names: list[str], count: int, first: int = 0) -> list[tuple[str, int]]:
    """The mutants ``first`` to ``count`` of a run: kinds in turn by their share, each numbered from 0."""
    total = sum(KINDS[name].share for name in names)
    due = dict.fromkeys(names, 0.0)
    numbers = dict.fromkeys(names, 0)
    found = []
    for index in range(count):
        for name in names:
            due[name] += KINDS[name].share / total
        name = max(names, key=lambda n: due[n])
        due[name] -= 1
        if index >= first:
            found.append((name, numbers[name]))
        numbers[name] += 1
    return found
