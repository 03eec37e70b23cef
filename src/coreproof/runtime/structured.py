"""Dictionaries and sequences as what is fed: checked against what the model declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coreproof.errors import InputError
from coreproof.model.features import Feature


def read_structured(feature: Feature, value: object, where: str) -> object:
    """A dictionary, or a sequence of arrays or dictionaries, as ONNX Runtime takes it. Raises InputError."""
    if feature.kind == "dictionary":
        return _dictionary(feature, value, where)
    if not isinstance(value, list | tuple):
        raise _refusal(feature, value, where, "a list")
    if feature.holds in (
        "sequence of text",
        "sequence of int64",
    ):  # Core ML's own: each element is one text, or one number
        return _row(feature, value, where)
    if "dictionary" in feature.holds:
        return [_dictionary(feature, element, where) for element in value]
    try:
        return [np.asarray(element, dtype=_dtype(feature)) for element in value]
    except (TypeError, ValueError) as error:
        raise _refusal(feature, value, where, f"a list of arrays ({error})") from error


def read_single(feature: Feature, value: object, where: str) -> np.ndarray:
    """One number, or one text, as an array of rank 0; what Core ML declares as double, int64 or string. Raises InputError."""
    array = np.asarray(value)
    if feature.kind == "string":
        if array.size != 1 or not isinstance(array.reshape(-1)[0], str):
            raise _refusal(feature, value, where, "one text")
        return np.asarray(str(array.reshape(-1)[0]), dtype=object)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise _refusal(feature, value, where, "one number")
    number = array.reshape(())
    if feature.kind == "int64" and number != np.floor(number):
        raise _refusal(feature, value, where, "one whole number")
    return number.astype("float64" if feature.kind == "double" else "int64")


def _row(feature: Feature, value: Sequence[object], where: str) -> np.ndarray:
    kind = str if feature.dtype == "str" else int
    elements = [element.item() if isinstance(element, np.generic) else element for element in value]
    if any(not isinstance(element, kind) or isinstance(element, bool) for element in elements):
        raise _refusal(feature, value, where, f"a list of {'texts' if kind is str else 'whole numbers'}")
    return np.array(elements, dtype=object if kind is str else np.int64)


def _dictionary(feature: Feature, value: object, where: str) -> dict[object, object]:
    if not isinstance(value, Mapping):
        raise _refusal(feature, value, where, "a dictionary")
    # ONNX maps have keys of texts or of whole numbers
    kind = str if "dictionary of text" in feature.holds else int
    value = {key.item() if isinstance(key, np.generic) else key: element for key, element in value.items()}
    wrong = [key for key in value if not isinstance(key, kind) or isinstance(key, bool)]
    if wrong:
        raise _refusal(feature, wrong[0], where, f"keys of type {kind.__name__}")
    try:
        return {key: np.asarray(element, dtype=_dtype(feature)).item() for key, element in value.items()}
    except (TypeError, ValueError) as error:
        raise _refusal(feature, value, where, f"one value a key ({error})") from error


def _dtype(feature: Feature) -> str | None:
    return None if feature.dtype in (None, "str") else feature.dtype


def _refusal(feature: Feature, value: object, where: str, expected: str) -> InputError:
    return InputError(
        f"input {feature.name!r} takes something else",
        where=where,
        expected=f"{expected}, for {feature}",
        found=f"{type(value).__name__} {str(value)[:60]}",
    )
