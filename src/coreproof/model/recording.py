"""Recording: a saved run of a model, read as the model that it stands for: its graph, its inputs, its values.

The file is a .npz: a zip archive of .npy arrays, each written as it was computed, and last ``coreproof.json``, which
says whose values they are. Arrays are numbered, because the names of values may hold anything. A value is read when it is
asked for, and checked by the archive's own checksum.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import get_args

import numpy as np

from coreproof.errors import InputError, UnreadableModelError
from coreproof.model.base import Format, Model
from coreproof.model.features import Signature
from coreproof.model.feeding import Feeding
from coreproof.model.files.arrays import Array, names_of, open_archive
from coreproof.model.files.entries import Entry, parse_json
from coreproof.model.files.outputs import RUN, Kind
from coreproof.model.graph import Graph
from coreproof.model.recorded_header import feeding_from, graph_from, signature_from
from coreproof.model.structured import Layout, is_structured, layout_from, put_together, taken_apart

HEADER = "coreproof.json"
VERSION = 1


class Recording(Model):
    """What a model computed from given inputs, as ``coreproof.record`` saved it; itself the reference of a verification.

    ``samples`` are the inputs, ``names`` the recorded values in the model's order. ``recorded`` is the format of the
    model it was recorded from, ``engine`` who computed, ``fingerprint`` the digest of that model's file, ``version``
    the coreproof that recorded. ``feeding`` is what the model carried, ``feedings`` what it does itself to its pictures.
    """

    format: Format = "recording"

    def __init__(self, path: Path, header: Entry) -> None:
        super().__init__(header["model"].text(), path, tuple(note.text() for note in header["notes"].each()))
        self.recorded: str = header["format"].one_of(get_args(Format))
        self.engine: str = header["engine"].text()
        self.fingerprint: str = header["fingerprint"].text()
        self.version: str = header["coreproof"].text()
        self.inputs: str = header["inputs"].text()
        self.provenance = {name: of.text() for name, of in header["provenance"].table().items()}
        # recordings of earlier versions do not say it
        self.made_from = frozenset(header.get("made_from").optional(lambda e: [o.text() for o in e.each()]) or ())
        self.gains = {name: _gain(stored) for name, stored in header["profiles"].table().items()}
        self.feeding: Feeding | None = header["feeding"].optional(feeding_from)
        self.feedings: dict[str, tuple[Feeding, ...]] = {
            name: tuple(feeding_from(f) for f in listed.each()) for name, listed in header["feedings"].table().items()
        }
        self._signature = signature_from(header["signature"])
        self._graph = graph_from(header["graph"])
        # names of entries alone: arrays stay in the file
        self._samples = [_sample(stored) for stored in header["samples"].each()]
        self._built = [stored.get("built").optional(_built) or {} for stored in header["samples"].each()]
        self._require_alike(header)

    def _require_alike(self, header: Entry) -> None:
        """Every sample holds the same inputs and values, the outputs among them."""
        if not self._samples:
            raise header["samples"].refuse("a sample", "none")
        first = self._samples[0]
        for index, sample in enumerate(self._samples):
            for part in ("inputs", "values"):
                # whoever reads one sample's names takes them for those of all
                if sample[part].keys() != first[part].keys():
                    odd = sorted(sample[part].keys() ^ first[part].keys())
                    raise header["samples"].refuse(f"the same {part} in every sample", f"{odd[:3]} not in all of them")
            unknown = sorted(sample["inputs"].keys() - {f.name for f in self._signature.inputs})
            if unknown:
                raise header["samples"].refuse("inputs of the signature", f"{unknown[:3]} in sample {index}")

    @property
    def signature(self) -> Signature:
        """The signature of the model that was recorded."""
        return self._signature

    @property
    def graph(self) -> Graph:
        """The layers of the model that was recorded."""
        return self._graph

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded values, outputs included."""
        return tuple(self._samples[0]["values"])

    @property
    def entries(self) -> set[str]:
        """The file's entries that hold the samples' arrays."""
        return {entry for sample in self._samples for part in sample.values() for entry in part.values()}

    @cached_property
    def samples(self) -> tuple[Mapping[str, object], ...]:
        """The inputs that were fed, sample by sample."""
        return tuple(self._part(index, "inputs", sample["inputs"]) for index, sample in enumerate(self._samples))

    def value(self, name: str, sample: int = 0) -> object:
        """One recorded value: an array, or the dictionary or sequence that the model made; KeyError where it was not recorded."""
        return self._part(sample, "values", {name: self._samples[sample]["values"][name]})[name]

    def array(self, entry: str) -> Array:
        """One array of the file by its entry's name."""
        return self._read({"": entry})[""]

    def find(self, inputs: Mapping[str, object]) -> int:
        """Which sample was made from ``inputs``; InputError where none was."""
        for index, fed in enumerate(self.samples):
            if inputs.keys() == fed.keys() and all(_same(inputs[name], fed[name]) for name in fed):
                return index
        raise InputError(
            "the saved run holds no values for these inputs",
            where=str(self.path),
            expected=self.inputs,
            fix="leave the inputs out: those of the saved run are fed to the other model",
        )

    def _kind(self, target: Path) -> Kind:
        return RUN

    def write(self, fresh: Path, target: Path) -> None:
        """Copies the file."""
        assert self.path is not None
        shutil.copyfile(self.path, fresh)

    def _part(self, sample: int, part: str, entries: Mapping[str, str]) -> dict[str, object]:
        """Inputs or values of a sample as the model took or made them."""
        built = self._built[sample].get(part, {})
        found: dict[str, object] = {}
        for name, array in self._read(entries).items():
            try:
                found[name] = put_together(built[name], array) if name in built else array
            except ValueError as error:
                assert self.path is not None
                raise _senseless(self.path, f"samples[{sample}].built.{part}.{name}: {error}") from None
        return found

    def _read(self, entries: Mapping[str, str]) -> dict[str, Array]:
        assert self.path is not None
        return dict(zip(entries, _arrays(self.path, entries.values()), strict=True))


def _same(given: object, recorded: object) -> bool:
    if is_structured(given) or is_structured(recorded):
        (layout, given), (other, recorded) = taken_apart(given), taken_apart(recorded)
        # the same arrays in a dictionary and in a list are not the same input
        if layout != other:
            return False
    one, two = np.asarray(given), np.asarray(recorded)
    # a recorded NaN is found again; numpy calls it unequal to itself
    return one.shape == two.shape and np.array_equal(one, two, equal_nan=two.dtype.kind == "f")


def _gain(stored: Entry) -> tuple[int, float | None, str]:
    axis, gain, entry = stored.each(3)
    return axis.whole(-64, 64), gain.optional(lambda e: e.number(finite=False)), entry.text()


def _sample(stored: Entry) -> dict[str, dict[str, str]]:
    return {part: {n: e.text() for n, e in stored[part].table().items()} for part in ("inputs", "values")}


def _built(stored: Entry) -> dict[str, dict[str, Layout]]:
    """How those inputs and values are built that are no arrays; a file of an older coreproof says nothing of that."""
    return {part: {n: layout_from(e) for n, e in named.table().items()} for part, named in stored.table().items()}


def is_recording(path: str | Path) -> bool:
    """Whether the file is a saved run, not just arrays."""
    return HEADER in names_of(Path(path))


def load_recording(path: str | Path) -> Recording:
    """Reads a saved run; its values stay in the file until they are asked for.

    Raises UnreadableModelError for a file that is damaged, cut short, from a newer coreproof, or no saved run.
    """
    path = Path(path)
    with open_archive(path, partial(_unreadable, path)) as archive:
        # what the header names is held against what is there before anything is read
        held = set(archive.members)
        if HEADER not in held:
            raise _unreadable(path, f"arrays only, no {HEADER}", "inputs are given with --inputs")
        header = parse_json(archive.text(HEADER), partial(_senseless, path))
    # asked first: the rest of the header means what its version says
    version = header["version"].whole(1)
    if version > VERSION:
        raise _unreadable(path, f"version {version} of the format", "update coreproof")
    recording = Recording(path, header)
    wanted = recording.entries
    lost = sorted({*wanted, *(entry for _, _, entry in recording.gains.values())} - held)
    if lost:
        raise _unreadable(path, f"{len(lost)} arrays are missing ({', '.join(lost[:3])})")
    return recording


def _senseless(path: Path, found: str) -> UnreadableModelError:
    return _unreadable(path, f"{HEADER}: {found}")


def _unreadable(path: Path, found: str, fix: str | None = None) -> UnreadableModelError:
    return UnreadableModelError(
        "this is not a saved run, or it is damaged",
        where=str(path),
        expected="a file that coreproof verify --save wrote",
        found=found,
        fix=fix or "record it again, or copy it again, whole",
    )


def _arrays(path: Path, entries: Iterable[str]) -> Iterator[Array]:
    with open_archive(path, partial(_unreadable, path)) as archive:
        for entry in entries:
            yield archive.array(entry)
