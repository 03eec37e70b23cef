"""A folder of inputs that are no photos: arrays (.npz, .npy), sounds (.wav), token ids (.json, .txt), a sample a file or several.

::

    a.npz             arrays by the names of the inputs; several samples as name/0, name/1
    b.npy             the array of a model with one input
    c.wav             the sound of a model with one input
    d.json            [101, 2023, 102], [[...], [...]], or {"input_ids": [...], "attention_mask": [...]}
    e.txt             a line of ids a sample
    f/ids.npy f/mask.npy    a folder: one sample, a file an input

Nothing is cut, mixed or resampled: what does not fit is refused with its file. Of bare ids the mask beside them is ones, and
types are zeros, as tokenizers give them for one text; where the model takes more of them than there are, what is added is masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coreproof.errors import CoreproofError, InputError
from coreproof.feeding.drawn import Sample
from coreproof.feeding.sounds import read_sound
from coreproof.model.features import Feature, Signature
from coreproof.model.files.arrays import read_npy
from coreproof.model.files.entries import Entry, read_json, read_text

SUFFIXES = (".npz", ".npy", ".wav", ".json", ".txt")
_IDS = re.compile(r"(?:^|_)(?:ids|tokens?)$", re.IGNORECASE)
_TYPES = re.compile(r"type_ids$|segment", re.IGNORECASE)
_MASK = re.compile(r"(?:^|[_.])mask(?:$|[_.\d])", re.IGNORECASE)
_TOLD = 8

Arrays = Mapping[str, np.ndarray]
ReadArchive = Callable[[Path], list[Sample]]


@dataclass(frozen=True)
class NamedSample:
    """One sample, and what it is called in a report: its file, and its place in it where that holds several."""

    name: str
    values: Sample


def is_input_file(path: Path) -> bool:
    """Whether inputs are read from this here: a folder, or a file that is no .npz."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES[1:]


def read_inputs(path: Path, signature: Signature, archive: ReadArchive) -> list[NamedSample]:
    """The samples of a folder, or of one file, in the order of their names. ``archive`` reads a .npz.

    Raises InputError with every file that does not fit, and for a folder in which there is nothing to feed.
    """
    single = not path.is_dir()
    files = (
        [path] if single else sorted((p for p in path.iterdir() if _is_wanted(p)), key=lambda p: natural_order(p.name))
    )
    if not files:
        raise InputError(
            "there are no inputs in this folder",
            where=str(path),
            expected=f"files that end in {', '.join(SUFFIXES)}, or folders with a file an input",
            found=", ".join(sorted(p.name for p in path.iterdir())[:_TOLD]) or "nothing",
        )
    found: list[NamedSample] = []
    problems: list[CoreproofError] = []
    rates: dict[int, str] = {}
    for file in files:
        try:
            listed = _read(file, signature, archive, rates)
        except InputError as error:
            if single:
                raise
            problems.append(error)
            continue
        several = len(listed) > 1
        found += [
            NamedSample(f"{file.name}/{at}" if several else file.name, values) for at, values in enumerate(listed)
        ]
    # a model hears one rate; resampling would change what it is fed
    if len(rates) > 1:
        told = "; ".join(f"{name}: {rate} a second" for rate, name in rates.items())
        problems.append(InputError("the sounds differ in how many samples a second has", where=str(path), found=told))
    if problems:
        raise _together(problems, path, len(files))
    return found


def _is_wanted(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def _together(problems: Sequence[CoreproofError], path: Path, files: int) -> InputError:
    if len(problems) == 1 and isinstance(problems[0], InputError):
        return problems[0]
    lines = [f"{Path(p.where or '').name}: {p.problem}" + (f" ({p.found})" if p.found else "") for p in problems]
    more = f"\nand {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
    error = InputError(
        f"{len(problems)} of {files} inputs do not fit",
        where=str(path),
        found="\n".join(lines[:_TOLD]) + more,
        fix="correct them, or take them out of the folder",
    )
    error.problems = tuple(problems)
    return error


def _read(file: Path, signature: Signature, archive: ReadArchive, rates: dict[int, str]) -> list[Sample]:
    """The samples of one file, each array in the shape that its input declares."""
    if file.is_dir():
        parts: dict[str, np.ndarray] = {}
        for part in sorted(file.iterdir()):
            # macOS and editors leave hidden files in folders
            if not part.name.startswith(".") and part.suffix.lower() in SUFFIXES[1:]:
                listed = list(_bare(part, rates))
                if len(listed) != 1 or not isinstance(listed[0], np.ndarray):
                    raise InputError("a file of an input holds one array", where=str(part), found=f"{len(listed)}")
                parts[part.stem] = listed[0]
        return [_fitted(parts, signature, file)]
    if file.suffix.lower() == ".npz":
        return archive(file)
    return [
        _fitted(bare if isinstance(bare, dict) else _for_inputs(bare, signature, file), signature, file)
        for each in _bare(file, rates)
        for bare in _samples(each, file, signature)
    ]


def _samples(bare: np.ndarray | dict[str, np.ndarray], file: Path, signature: Signature) -> Iterator[object]:
    """An array of one axis more than the input has holds a sample a row."""
    if isinstance(bare, dict) or file.suffix.lower() != ".npy":
        yield bare
        return
    only = _only(signature)
    rank = None if only is None or only.shape is None else len(only.shape)
    yield from (bare if rank is not None and bare.ndim == rank + 1 else (bare,))


def _bare(file: Path, rates: dict[int, str]) -> Iterator[np.ndarray | dict[str, np.ndarray]]:
    """What a file holds: arrays without a name, or by name."""
    kind = file.suffix.lower()
    fail = InputError.of_file("the input cannot be read", file)
    if kind == ".npy":
        yield read_npy(file, fail)
    elif kind == ".wav":
        sound = read_sound(file)
        rates.setdefault(sound.rate, file.name)
        yield sound.samples
    elif kind == ".txt":
        for number, line in enumerate(read_text(file, fail).splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield _ids(re.split(r"[\s,]+", line.strip().strip("[]").strip()), f"{file}:{number}")
    else:
        yield from _of_json(read_json(file, fail))


def _ids(words: Sequence[str], where: str) -> np.ndarray:
    # at most 18 digits fit into int64 in any case
    wrong = [word for word in words if re.fullmatch(r"-?\d{1,18}", word) is None]
    if wrong:
        raise InputError("a line of token ids holds whole numbers", where=where, found=wrong[0][:40])
    return np.array([int(word) for word in words], np.int64)


def _of_json(entry: Entry) -> Iterator[np.ndarray | dict[str, np.ndarray]]:
    if isinstance(entry.value, dict):
        yield {name: _array(each) for name, each in entry.table().items()}
        return
    listed = entry.each()
    if listed and all(isinstance(each.value, dict) for each in listed):
        for each in listed:
            yield {name: _array(part) for name, part in each.table().items()}
    elif listed and all(isinstance(each.value, list) for each in listed):
        yield from (_array(each) for each in listed)
    else:
        yield _array(entry)


def _array(entry: Entry) -> np.ndarray:
    try:
        made = np.array(entry.value)
    except ValueError:  # rows of unlike lengths
        raise entry.refuse("numbers, as many in each row") from None
    if made.dtype.kind not in "iufb" or (not made.size and made.ndim):
        raise entry.refuse("numbers")
    return made


def _only(signature: Signature) -> Feature | None:
    needed = [f for f in signature.inputs if not f.optional]
    return needed[0] if len(needed) == 1 else None


def _for_inputs(bare: object, signature: Signature, file: Path) -> Arrays:
    """What an array without a name is for: the one input, or the ids, with the mask and the types that belong to them."""
    array = np.asarray(bare)
    only = _only(signature)
    if only is not None:
        return {only.name: array}
    needed = [f for f in signature.inputs if not f.optional]
    masks = [f for f in needed if _MASK.search(f.name)]
    types = [f for f in needed if _TYPES.search(f.name)]
    ids = [f for f in needed if _IDS.search(f.name) and f not in types]
    if len(ids) != 1 or len(ids) + len(masks) + len(types) != len(needed) or array.dtype.kind not in "iu":
        raise InputError(
            "what an array without a name is for is not known",
            where=str(file),
            expected="; ".join(map(str, needed)),
            found=f"{array.dtype}[{'x'.join(map(str, array.shape))}]",
            fix='name it: a .npz, {"NAME": [...]} in a .json, or a folder with NAME.npy for each input',
        )
    return {
        ids[0].name: array,
        **{f.name: np.ones_like(array) for f in masks},
        **{f.name: np.zeros_like(array) for f in types},
    }


def _fitted(arrays: Arrays, signature: Signature, file: Path) -> Sample:
    """Each array with the axes of length 1 in front that its input declares, and ids filled up where a mask hides that."""
    declared = {f.name: f for f in signature.inputs}
    masked = any(_MASK.search(name) for name in arrays)
    made: dict[str, object] = {}
    for name, array in arrays.items():
        feature = declared.get(name)
        if feature is None or feature.shape is None or feature.image is not None:
            made[name] = array
            continue
        shape = feature.shape
        # a single sample that was saved with an axis for samples
        value = array[0] if array.ndim == len(shape) + 1 and array.shape[0] == 1 else array
        # a sample without its batch axis, as tokenizers and microphones give it
        while value.ndim < len(shape) and _may_be_one(shape[len(shape) - value.ndim - 1]):
            value = value[None]
        length = shape[-1] if shape else None
        if (
            masked
            and value.dtype.kind in "iu"
            and value.ndim == len(shape)
            and isinstance(length, int)
            and not feature.ranges
            and not feature.enumerated
            and value.shape[-1] < length
        ):
            # ids and mask alike are filled with 0: what the mask says 0 of is not looked at
            value = np.pad(value, [(0, 0)] * (value.ndim - 1) + [(0, length - value.shape[-1])])
        made[name] = value.astype(feature.dtype) if _is_plainly(value, feature) else value
    return made


def _may_be_one(length: object) -> bool:
    return not isinstance(length, int) or length == 1


def _is_plainly(value: np.ndarray, feature: Feature) -> bool:
    """Whether the numbers are the declared kind's, of another width."""
    if feature.dtype in (None, "str", "bfloat16"):
        return False
    kind = np.dtype(feature.dtype).kind
    # whole numbers only where the width keeps them: 300 does not become a byte
    return (kind == "f" and value.dtype.kind in "iuf") or (
        kind in "iu" and value.dtype.kind in "iu" and bool((value.astype(feature.dtype) == value).all())
    )


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts x10 behind x9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]
