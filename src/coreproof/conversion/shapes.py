"""The shapes that are asked for, in one grammar for Python and the command line.

::

    (1, 3, 224, 224)                    one shape                    1x3x224x224
    [1, 3, (224, 1024), (224, 1024)]    ranges, beside an int        1x3x224..1024x224..1024
    ["1..4", "1..16"]                   ranges, as text              1..4x1..16
    [(1, 64), (1, 128)]                 a list of whole shapes       1x64|1x128

A sequence of sequences is always a list of whole shapes. A range without an end ("1..", or (1, None)) is not bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from coreproof.errors import ConversionError, InputError
from coreproof.model.features import Feature

Range: TypeAlias = tuple[int, int]
"""The lowest and the highest length; -1 is no bound."""

_GRAMMAR = (
    "a shape (1, 3, 224, 224), ranges beside an int [1, 3, (224, 1024), 8] or as text ['1..4', '1..16'], "
    "or a list of whole shapes [(1, 64), (1, 128)]; as text 1x3x224..1024x8 or 1x64|1x128"
)


class NamedRange(tuple[int, int]):
    """A range whose length has a name: all of that name are one length, whatever axes they stand on."""

    name: str


class FreeName(str):
    """The name of a free dimension, which knows the least length that is asked for: code that needs so many may be traced."""

    low: int = 1


def free_name(name: str, low: int) -> FreeName:
    """That name of a length which is at least so large."""
    made = FreeName(name)
    made.low = low
    return made


def of_dynamic_shapes(dynamic_shapes: object, inputs: Sequence[Feature]) -> dict[str, object]:
    """``dynamic_shapes`` as torch.export takes them, as the shapes that ``convert`` takes.

    For each input, by its name or in order: None, or by axis (a dictionary, or a list with an entry an axis) a ``Dim``,
    ``Dim.AUTO``, ``Dim.DYNAMIC``, or None for the example's length. Raises InputError for what is none of these, and for lengths
    that are computed from others.
    """
    names = [f.name for f in inputs]
    given = (
        dict(zip(names, dynamic_shapes, strict=False)) if isinstance(dynamic_shapes, tuple | list) else dynamic_shapes
    )
    if not isinstance(given, Mapping) or (
        isinstance(dynamic_shapes, tuple | list) and len(dynamic_shapes) != len(names)
    ):
        raise InputError(
            "dynamic_shapes has an entry for each input",
            expected=", ".join(names),
            found=f"{len(dynamic_shapes)} entries"
            if isinstance(dynamic_shapes, Sequence)
            else type(dynamic_shapes).__name__,
        )
    check_names(given, names)
    lengths = {f.name: tuple(f.shape or ()) for f in inputs}
    return {name: _of_dims(name, said, lengths[name]) for name, said in given.items() if said}


def _of_dims(name: str, said: object, lengths: Sequence[object]) -> list[object]:
    by_axis: Mapping[Any, object] = dict(enumerate(said)) if isinstance(said, tuple | list) else {}
    by_axis = said if isinstance(said, Mapping) else by_axis
    wrong = [axis for axis in by_axis if not isinstance(axis, int) or not -len(lengths) <= axis < len(lengths)]
    if wrong or not by_axis:
        raise InputError(
            f"the dynamic shape of {name!r} is by axis", expected=f"0 to {len(lengths) - 1}", found=f"{wrong or said!r}"
        )
    shape = list(lengths)
    for axis, dim in by_axis.items():
        shape[axis] = _of_dim(name, axis, dim, lengths[axis])
    return shape


def _of_dim(name: str, axis: int, dim: object, length: object) -> object:
    kind = type(dim).__name__
    if dim is None or "STATIC" in str(dim) or (isinstance(dim, int) and dim == length):
        return length
    if kind == "_DimHint":  # Dim.AUTO, Dim.DYNAMIC
        return (getattr(dim, "min", None) or 1, getattr(dim, "max", None))
    # a Dim that is computed from another (2 * batch) has that one as its root
    if not all(hasattr(dim, each) for each in ("__name__", "min", "max")) or hasattr(dim, "root"):
        raise InputError(
            f"axis {axis} of {name!r} is no free length",
            expected="torch.export.Dim(NAME), Dim.AUTO, Dim.DYNAMIC or None",
            found=str(dim),
            fix="give a length that follows from another a name of its own, or keep it fixed"
            if hasattr(dim, "root")
            else None,
        )
    low, high = int(dim.min), dim.max  # type: ignore[attr-defined]
    # a Dim begins at 0 where nothing is said, and ends at an infinity that is no int
    found = NamedRange((max(1, low), -1 if not isinstance(high, int) or high >= 2**31 else high))
    found.name = str(dim.__name__)  # type: ignore[attr-defined]
    return found


def read_shape(name: str, asked: object) -> list[tuple[Range, ...]]:
    """The shapes asked for input ``name``: one, whose lengths may be ranges, or several fixed ones.

    Raises InputError, with the grammar, for anything else.
    """
    if isinstance(asked, str):
        return _options(name, asked, [_split(shape) for shape in asked.split("|")])
    whole = asked.tolist() if hasattr(asked, "tolist") else asked  # of an array
    if not isinstance(whole, Iterable):
        raise _wrong(name, asked, "it is no shape")
    listed = list(whole)
    if not listed:
        raise _wrong(name, asked, "it is empty")
    if all(_is_whole(option) for option in listed):
        return _options(name, asked, [_split(o) if isinstance(o, str) else list(o) for o in listed])
    return _options(name, asked, [listed])


def shapes_of_rank(name: str, asked: object, declared: Sequence[object]) -> list[tuple[Range, ...]]:
    """The shapes asked for an input of these lengths. Raises InputError as ``read_shape``, ConversionError for another rank."""
    options = read_shape(name, asked)
    if len(declared) == len(options[0]):
        return options
    one = len(options) == 1 and len(declared) == 1
    as_text = "['1..4']" if one else "['1..4', '1..16']"
    raise ConversionError(
        f"the shape asked for input {name!r} has another rank",
        expected=f"{len(declared)} lengths, as the model has: {list(declared)}",
        found=f"{len(options[0])} lengths: {_told(asked)}",
        fix=f"ranges of every dimension are written as text: {as_text}" if one or len(options[0]) == 2 else None,
    )


def read_shapes(texts: Sequence[str]) -> dict[str, str]:
    """``NAME=SHAPE`` as the command line has it. Raises InputError for a text that is not."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, shape = text.rpartition("=")
        if not equals or not name or not shape:
            raise InputError("--shape takes NAME=SHAPE", expected="x=1x3x224..1024x224 or ids=1x64|1x128", found=text)
        if name in found:
            raise InputError(f"--shape is said twice of input {name!r}", found=f"{found[name]} and {shape}")
        read_shape(name, shape)
        found[name] = shape
    return found


def check_names(shapes: Mapping[str, object], inputs: Sequence[str]) -> None:
    """Raises InputError for shapes of inputs that the model does not have."""
    if not isinstance(shapes, Mapping):
        raise InputError(
            "shapes are given by the names of inputs",
            expected=f"a mapping, as {{{(inputs or ['x'])[0]!r}: [1, (4, 32)]}}",
            found=repr(shapes),
        )
    unknown = [name for name in shapes if name not in inputs]
    if unknown:
        raise InputError(
            "shapes are asked for inputs that the model does not have",
            expected=", ".join(inputs) or "no input",
            found=", ".join(unknown),
        )


def _is_whole(option: object) -> bool:
    """Whether one element is a shape of its own and not a length."""
    if isinstance(option, NamedRange):
        return False
    return (isinstance(option, Sequence) and not isinstance(option, str)) or (isinstance(option, str) and "x" in option)


def _split(text: str) -> list[object]:
    return [part.strip() for part in text.lower().replace("×", "x").split("x")]


def _options(name: str, asked: object, options: list[Sequence[object]]) -> list[tuple[Range, ...]]:
    found = [tuple(_length(name, asked, length) for length in option) for option in options]
    if len({len(shape) for shape in found}) > 1:
        raise InputError(f"the shapes of input {name!r} differ in rank", found=_told(asked))
    if len(found) > 1 and any(low != high for shape in found for low, high in shape):
        raise _wrong(name, asked, "each of several shapes has fixed lengths")
    # a shape that is named twice is one of the list once
    return list(dict.fromkeys(found))


def _length(name: str, asked: object, length: object) -> Range:
    low: Any
    high: Any
    if isinstance(length, str) and ".." in length:
        low, high = (part.strip() for part in length.split("..", 1))
    elif isinstance(length, Sequence) and not isinstance(length, str):
        if len(length) != 2:
            raise _wrong(name, asked, "a range is (low, high)")
        low, high = length
    else:
        low = high = length
    if any(isinstance(end, bool) or (isinstance(end, float) and end != math.inf) for end in (low, high)):
        raise _wrong(name, asked, f"{length!r} is no length")
    try:
        first = int(low)
        last = -1 if high in (None, -1, "", math.inf) else int(high)
    except (TypeError, ValueError):
        raise _wrong(name, asked, f"{length!r} is no length") from None
    # as it is, or its name would be lost
    if isinstance(length, NamedRange):
        return length
    if first < 1 or (last != -1 and last < first):
        raise _wrong(
            name, asked, f"{length!r} is no length of at least 1, or no range that ends where it begins or later"
        )
    return first, last


def _wrong(name: str, asked: object, why: str) -> InputError:
    return InputError(
        f"the shape asked for input {name!r} cannot be read: {why}", expected=_GRAMMAR, found=_told(asked)
    )


def _told(asked: object) -> str:
    return asked if isinstance(asked, str) else repr(asked)


def with_batches(inputs: Iterable[Feature], shapes: Mapping[str, object], batch: int | str) -> dict[str, object]:
    """The shapes that are asked for, and for all other inputs their own with this batch.

    A shape says its first length itself. Raises InputError where all do, and none has every batch: it would go without a word.
    """
    listed = list(inputs)
    check_names(shapes, [f.name for f in listed])
    allowed = allowed_batches(str(batch))
    said = {name: [shape[0] for shape in read_shape(name, asked) if shape] for name, asked in shapes.items()}
    if len(said) == len(listed) and not any(set(allowed) <= set(firsts) for firsts in said.values()):
        raise InputError(
            "the batch and the shapes that are asked for say different first lengths",
            expected=f"{_in_words(allowed)}, as the batch says",
            found=", ".join(f"{name}: {_told(asked)}" for name, asked in shapes.items()),
            fix="say the batch in the shape, as 1..4x3x224x224, or leave one of the two out",
        )
    return {**{f.name: with_batch(f, str(batch)) for f in listed if f.name not in shapes}, **shapes}


def _in_words(allowed: Sequence[Range]) -> str:
    return " or ".join(str(low) if low == high else f"{low}..{'' if high < 0 else high}" for low, high in allowed)


def allowed_batches(batch: str) -> list[Range]:
    """What ``batch`` says, as ranges. Raises InputError where it cannot be read."""
    parts = [part.strip() for part in (batch.split(",") if "," in batch else [batch])]
    if not all(re.fullmatch(r"[1-9]\d*(-([1-9]\d*)?)?", part) for part in parts):
        raise InputError("--batch takes 4, 1-16 or 1,4,16", found=batch, fix="in Python: batch=4, batch='1-16'")
    ends = [part.partition("-") for part in parts]
    return [(int(low), -1 if dash and not high else int(high or low)) for low, dash, high in ends]


def with_batch(feature: Feature, batch: str) -> str:
    """The feature's shape with its first dimension as it was said (4, 1-16, or 1,4,16), as ``--shape`` has it."""
    if not feature.shape:
        raise InputError("--batch needs inputs of known rank", found=str(feature))
    free = [str(d or "?") for d in feature.shape[1:] if not isinstance(d, int) or d < 1]
    if free:
        raise InputError(
            f"input {feature.name!r} has other free dimensions than the batch: {', '.join(free)}",
            found=str(feature),
            fix=f"say all of its shape: --shape {feature.name}={'x'.join(['1..4', *['1..64'] * (len(feature.shape) - 1)])}",
        )
    rest = "".join(f"x{d}" for d in feature.shape[1:])
    allowed_batches(batch)
    return "|".join(part.strip().replace("-", "..") + rest for part in batch.split(","))
