"""A line-up: the models to compare and how each is fed, from a TOML file or from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeGuard, TypeVar, get_args

from coreproof.comparison.device import DeviceRun
from coreproof.conversion.convert import Target
from coreproof.errors import LineupError, UnsafeModelError
from coreproof.model.arguments import OTHER_NAMES
from coreproof.model.feeding import Feeding
from coreproof.model.files.entries import Entry as Document
from coreproof.model.files.entries import read_lines, read_toml
from coreproof.model.named.kinds import named_kind
from coreproof.model.recorded_header import feeding_from
from coreproof.model.stored_source import weights_of, why_nameless, why_outside, why_unsafe
from coreproof.runtime.session import Engine, Precision

_T = TypeVar("_T")
_MODEL_FILES = (".onnx", ".mlmodel", ".mlpackage", ".pt2", ".pt", ".pth")


@dataclass(frozen=True)
class LineupEntry:
    """One model of a line-up.

    ``source`` is what ``load`` takes; instead of it, ``base`` names another entry that this one is made from:
    converted (``convert``, ``precision``), with another input ``shape``, with the weights of a third entry
    (``weights_from``), or with pooling windows that also cover a last, partial step (``pooling`` "ceil").
    ``image`` makes the converted model's input a picture with the feeding's mean and std inside. ``softmax`` says
    whether scores are logits; None decides by looking whether they are a distribution. ``arithmetic`` "stored" rounds
    float16 programs as stored, "fp32" is ideal. ``note`` is shown on the page. ``called``: what people call it beside its name
    (default: its format, as "Core ML float16"). ``device``: what a phone answered already, in the place of a model.
    """

    name: str
    source: object = None
    base: str | None = None
    convert: Target | None = None
    precision: Literal["fp32", "fp16"] | None = None
    image: bool = False
    shape: tuple[int, ...] | None = None
    weights_from: str | None = None
    pooling: Literal["ceil"] | None = None
    feeding: Feeding | None = None
    softmax: bool | None = None
    labels: tuple[str, ...] | None = None
    engine: Engine = "auto"
    arithmetic: Precision = "stored"
    note: str = ""
    called: str = ""
    device: DeviceRun | None = None

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The entries that this one is made from."""
        return tuple(name for name in (self.base, self.weights_from) if name is not None)


@dataclass(frozen=True)
class Attribution:
    """Why two models disagree: ``cause -> model`` is ``between[0]`` made like ``between[1]`` in that respect."""

    between: tuple[str, str]
    causes: Mapping[str, str]


def explaining(attributions: Sequence[Attribution]) -> set[str]:
    """The models that stand in a line-up only to explain a difference between others: they differ on purpose."""
    return {model for found in attributions for model in found.causes.values()} - {
        model for found in attributions for model in found.between
    }


@dataclass(frozen=True)
class Lineup:
    """Models to compare, in the order in which tables show them; ``folder`` is what paths are relative to.

    ``stored``: the sources stand in a file, and nobody typed them; ``trust``: they may name Python code and pickles.
    """

    entries: tuple[LineupEntry, ...]
    folder: Path | None = None
    labels: Path | None = None
    title: str = ""
    attributions: tuple[Attribution, ...] = field(default=())
    stored: bool = False
    trust: bool = False

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        # checked here, so that line-ups made in Python hold together too
        if not names:
            raise LineupError("the line-up names no model", fix='add [models.NAME] with source = "..."')
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise LineupError("a name stands for two models", found=", ".join(doubled))
        problems = [*_unknown_references(self, set(names)), *_circles(self)]
        if problems:
            raise LineupError("the line-up does not hold together", found="; ".join(problems))

    @property
    def names(self) -> tuple[str, ...]:
        """The models, in the order of the line-up."""
        return tuple(entry.name for entry in self.entries)

    def entry(self, name: str) -> LineupEntry:
        """The entry of that name."""
        return next(entry for entry in self.entries if entry.name == name)

    def feeding(self, name: str) -> Feeding | None:
        """How an entry is fed: its own feeding, else that of the entry it is made from."""
        entry = self.entry(name)
        if entry.feeding is not None or entry.base is None:
            return entry.feeding
        return self.feeding(entry.base)


def spoken(name: str, called: str) -> str:
    """A model as a sentence names it: what people call it, and its name where that says something else."""
    return f"{called} ({name})" if called and called.casefold() != name.casefold() else name


def with_devices(lineup: Lineup, runs: Sequence[DeviceRun]) -> Lineup:
    """The line-up with what phones answered as further models, behind the others."""
    entries = tuple(
        LineupEntry(name, labels=run.labels or None, note=f"{run.model} as the device ran it", device=run)
        for name, run in zip(_device_names(runs), runs, strict=True)
    )
    return replace(lineup, entries=(*lineup.entries, *entries))


def _device_names(runs: Sequence[DeviceRun]) -> list[str]:
    """What tells the runs apart, as short as that goes: one phone may have proved two models, two phones be of one kind."""
    namings = (
        [run.name for run in runs],
        [f"{run.name}, {run.model}" for run in runs],
        [f"{run.name}, {run.system}" for run in runs],
        [f"{run.name}, {run.model}, {run.system}" for run in runs],
    )
    # the shortest naming that tells all runs apart
    different = next((names for names in namings if len(set(names)) == len(runs)), None)
    if different is None:
        raise LineupError(
            "two proofs are of one model on devices that cannot be told apart",
            found=", ".join(sorted({name for name in namings[-1] if namings[-1].count(name) > 1})),
            fix="import one of them",
        )
    return different


def lineup_of(
    models: Mapping[str, object],
    feeding: Feeding | Mapping[str, Feeding] | None = None,
    called: Mapping[str, str] = MappingProxyType({}),
) -> Lineup:
    """A line-up of models by name; ``feeding`` one for all, or by name; ``called``: what people call them."""
    by_name = feeding if isinstance(feeding, Mapping) else dict.fromkeys(models, feeding)
    return Lineup(
        tuple(
            LineupEntry(name, model, feeding=by_name.get(name), called=called.get(name, ""))
            for name, model in models.items()
        )
    )


_MODELS = (".onnx", ".mlmodel", ".mlpackage", ".pt2", ".aimodel")


def load_lineup(path: str | Path, data: str | Path | None = None, *, trust: bool = False) -> Lineup:
    """Reads a line-up file; ``data`` is the folder that its paths are relative to (default: the file's own).

    Without ``trust`` it names data below that folder: sources that are Python code (``module:callable``) or pickles, and
    paths that are absolute or have "..", raise UnsafeModelError, all at once. Raises LineupError; missing model files are
    all named at once.
    """
    path = Path(path)
    if path.suffix in _MODELS:
        raise LineupError(
            "a line-up is a TOML file that names the models",
            where=str(path),
            found=f"a model ({path.suffix})",
            fix="write one: [models.a], source = FILE; of two models alone: coreproof verify A B",
        )
    read = read_toml(path, LineupError.of_file("the line-up cannot be read", path))
    document = read.value
    folder = Path(data) if data is not None else path.parent
    unknown = set(document) - {"title", "feed", "models", "photos", "attribution"}
    if unknown:
        raise _unknown(path, "", unknown, ("title", "feed", "models", "photos", "attribution"))
    shared = _feeding(path, "feed", document["feed"]) if "feed" in document else None
    title = path.stem if "title" not in document else read["title"].text()
    models = document.get("models", {})
    if not isinstance(models, dict):
        raise LineupError("models must be tables", where=str(path), expected="[models.NAME]")
    # before anything is read that the file names
    _refuse_unsafe(path, _named(document), folder, trust=trust)
    entries = tuple(_entry(path, name, table, shared, folder) for name, table in models.items())
    labels = None if "photos" not in document else read["photos"].get("labels").optional(Document.text)
    attributions = [] if "attribution" not in document else read["attribution"].each()
    lineup = Lineup(
        entries,
        folder,
        None if labels is None else folder / labels,
        title,
        tuple(_attribution(path, stored.value) for stored in attributions),
        stored=True,
        trust=trust,
    )
    _require_files(path, lineup)
    return lineup


def as_lineup(given: Lineup | str | Path | Mapping[str, object], *, trust: bool) -> Lineup:
    """A line-up as a verb takes it: itself, its file, or models by name. One that was trusted stays so without ``trust``."""
    if isinstance(given, str | Path):
        return load_lineup(given, trust=trust)
    lineup = given if isinstance(given, Lineup) else lineup_of(given)
    return replace(lineup, trust=True) if trust else lineup


def _named(document: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What a line-up names: where it says so, the text, and whether it is a model (else it is a file of text)."""
    for name, table in document.get("models", {}).items():
        if isinstance(table, dict) and isinstance(table.get("source"), str):
            yield f"models.{name}.source", table["source"], True
        if isinstance(table, dict) and isinstance(table.get("labels"), str):
            yield f"models.{name}.labels", table["labels"], False
    photos = document.get("photos")
    if isinstance(photos, dict) and isinstance(photos.get("labels"), str):
        yield "photos.labels", photos["labels"], False


def _refuse_unsafe(path: Path, named: Iterator[tuple[str, str, bool]], folder: Path, *, trust: bool) -> None:
    found = []
    for where, text, model in named:
        if (why := why_nameless(text)) is None and not trust:
            why = why_unsafe(text, folder) if model else why_outside(text)
        if why is not None:
            found.append(f"{where} = {text!r} ({why})")
    if found:
        raise UnsafeModelError(
            "the line-up names Python code, a pickle or a file elsewhere: it is not followed",
            where=str(path),
            expected="files of data below the line-up's folder (or --data FOLDER), or torchvision:NAME, timm:NAME, hf:OWNER/REPO",
            found="; ".join(found),
            fix="pass --trust (in Python: trust=True) if you know who made the line-up",
        )


def missing_files(lineup: Lineup) -> list[str]:
    """Files that the line-up names and that are not there."""
    folder = lineup.folder or Path()
    sources = (entry.source for entry in lineup.entries)
    wanted = [file for source in sources if isinstance(source, str | Path) for file in _files_of(source)]
    missing = [file for file in dict.fromkeys(wanted) if not (folder / file).exists()]
    return missing if lineup.labels is None or lineup.labels.exists() else [*missing, str(lineup.labels)]


def _require_files(path: Path, lineup: Lineup) -> None:
    missing = missing_files(lineup)
    if missing:
        raise LineupError(
            f"{len(missing)} file(s) of the line-up are not there: {', '.join(missing)}",
            where=str(path),
            expected=f"them in {lineup.folder}",
            fix="say where they are: --data FOLDER",
        )


def _files_of(source: str | Path) -> list[str]:
    text = str(source)
    if named_kind(text) is not None:
        return weights_of(text)
    # module:callable may end like a file, and names none
    return [text] if Path(text).suffix.lower() in _MODEL_FILES and ":" not in text else []


def _entry(path: Path, name: str, stored: object, shared: Feeding | None, folder: Path) -> LineupEntry:
    where = f"models.{name}"
    table: dict[str, Any] = dict(_table(path, where, stored))
    own = (f.name for f in fields(LineupEntry) if f.name not in ("name", "base", "feeding", "device"))
    known = tuple(dict.fromkeys(("source", "from", "feed", *own)))
    if set(table) - set(known):
        raise _unknown(path, where, set(table) - set(known), known)
    if ("source" in table) == ("from" in table):
        raise LineupError(f"{where} needs either source or from", where=str(path), found=", ".join(table) or "nothing")
    for key, (fits, expected) in _KINDS.items():
        if key in table and not fits(table[key]):
            raise LineupError(f"{where}.{key} is not known", where=str(path), expected=expected, found=table[key])
    # "from" is a word of Python's own, which no field can be called
    base = table.pop("from", None)
    # what is made from another entry is fed as that one
    feeding = shared if base is None else None
    if "feed" in table:
        feeding = _feeding(path, f"{where}.feed", table.pop("feed"), shared)
    if isinstance(table.get("labels"), str):
        file = folder / table["labels"]
        table["labels"] = read_lines(file, LineupError.of_file("the label file cannot be read", file))
    for key in ("labels", "shape"):
        if table.get(key) is not None:
            # TOML has lists, and an entry is frozen
            table[key] = tuple(table[key])
    # "float16" is taken for "fp16", as everywhere
    table["precision"] = OTHER_NAMES.get(str(table.get("precision")), table.get("precision"))
    for key, allowed in _CHOICES.items():
        if table.get(key) is not None and table[key] not in allowed:
            raise LineupError(f"{where}.{key} is not known", where=str(path), expected=_or(allowed), found=table[key])
    return LineupEntry(name, base=base, feeding=feeding, **table)


def _all(value: object, kind: type[_T]) -> TypeGuard[list[_T]]:
    # true and false are whole numbers to Python
    return isinstance(value, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)


_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("source", "from", "weights_from", "note", "called"), (lambda v: isinstance(v, str), "a text")),
    **dict.fromkeys(("image", "softmax"), (lambda v: isinstance(v, bool), "true or false")),
    "shape": (lambda v: _all(v, int) and all(0 < n < 2**24 for n in v), "whole numbers above 0"),
    "labels": (lambda v: isinstance(v, str) or _all(v, str), "a file with a label a line, or the labels"),
}
_CHOICES: dict[str, Sequence[str]] = {
    "convert": get_args(Target),
    "precision": ("fp32", "fp16"),
    "pooling": ("ceil",),
    "engine": get_args(Engine),
    "arithmetic": get_args(Precision),
}


def _feeding(path: Path, where: str, table: object, base: Feeding | None = None) -> Feeding:
    wrong = LineupError.of_file(f"{where} does not say how photos are fed", path)

    return feeding_from(Document(table, where, wrong), base)


def _attribution(path: Path, stored: object) -> Attribution:
    table = _table(path, "attribution", stored)
    between, causes = table.get("between"), table.get("causes")
    if not _all(between, str) or len(between) != 2 or not isinstance(causes, dict):
        raise LineupError(
            "an attribution needs two models and causes",
            where=str(path),
            expected='between = ["a", "b"] and causes = {"the crop" = "a_at_crop_of_b"}',
        )
    return Attribution((between[0], between[1]), {str(k): str(v) for k, v in causes.items()})


def _unknown_references(lineup: Lineup, names: set[str]) -> list[str]:
    made = [(entry.name, parent) for entry in lineup.entries for parent in entry.depends_on if parent not in names]
    found = [f"{name} is made from {parent!r}, which is no model of it" for name, parent in made]
    for attribution in lineup.attributions:
        used = (*attribution.between, *attribution.causes.values())
        found += [f"an attribution names {name!r}, which is no model of it" for name in used if name not in names]
        a, b = attribution.between
        found += [f"an attribution is between {a!r} and itself"] if a == b else []
        found += [
            f"an attribution explains {a!r} and {b!r} by {n!r}" for n in attribution.causes.values() if n in (a, b)
        ]
    return found


def _circles(lineup: Lineup) -> list[str]:
    parents = {entry.name: entry.depends_on for entry in lineup.entries}

    def reaches(name: str, target: str, seen: frozenset[str]) -> bool:
        return any(p == target or (p not in seen and reaches(p, target, seen | {p})) for p in parents.get(name, ()))

    return [f"{name} is made from itself" for name in parents if reaches(name, name, frozenset({name}))]


def _table(path: Path, where: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise LineupError(f"{where} must be a table", where=str(path), found=value)
    return value


def _unknown(path: Path, where: str, unknown: set[str], known: Sequence[str]) -> LineupError:
    place = f" of {where}" if where else ""
    return LineupError(
        f"unknown key(s){place}: {', '.join(sorted(unknown))}", where=str(path), expected=", ".join(known)
    )


def _or(allowed: Sequence[str]) -> str:
    return " or ".join(allowed)
