"""Constants as MLIR writes them in text, and as it keeps them in bytes, read into arrays."""

from __future__ import annotations

import re

import numpy as np

from coreproof.model.coreai.element_types import TensorType, bits_of, numpy_dtype, tensor_type

_DENSE = re.compile(r"dense<(.*)> : tensor<", re.DOTALL)
_NUMBER = re.compile(r"true|false|[+-]?(?:0x[0-9A-Fa-f]+|[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?)")


def dense_array(text: str, kind: str) -> np.ndarray:
    """The array of a ``dense<...>`` literal of a type. Raises ValueError for what is none."""
    held, found = _known(kind), _DENSE.search(text)
    if found is None:
        raise ValueError(f"a constant of {kind} is no dense<...>")
    shape, body = _lengths(held), found[1].strip()
    dtype = numpy_dtype(held.element)
    if body.startswith('"0x'):
        # text keeps every element in bytes of its own, but for truth values
        data = bytes.fromhex(body[3:].rstrip('"'))
        return stored_array(data, kind) if held.element == "i1" else _full(np.frombuffer(data, dtype), shape)
    numbers = [_number(found[0], dtype) for found in _NUMBER.finditer(body)]
    if dtype.kind == "c":
        # not as a sum: infinity times i is no number
        return _full(np.array(numbers, np.dtype(f"f{dtype.itemsize // 2}")).view(dtype), shape)
    if dtype.kind in "biu" or held.element in ("f32", "f64"):
        return _full(np.array(numbers, dtype), shape)
    return _full(np.array(numbers, np.float64).astype(dtype), shape)


def _number(text: str, dtype: np.dtype) -> complex:
    if text in ("true", "false"):
        return text == "true"
    if "0x" in text:
        # the bits of a number that has no decimal form: NaN, infinity
        bits = int(text.lstrip("+-"), 16)
        if dtype.kind in "iub":
            return bits
        part = np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype
        return float(np.array([bits], f"<u{part.itemsize}").view(part)[0])
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def stored_array(data: bytes | np.ndarray, kind: str) -> np.ndarray:
    """The array that bytes hold which are kept beside a graph: elements of less than a byte share bytes, lowest bits first.

    Elements of 3 and 6 bits may be followed by what fills three bytes.
    Truth values may also have a byte each, as the bindings write those of an array.
    Raises ValueError where there are other than as many bytes as the type takes.
    """
    held = _known(kind)
    shape, width, dtype = _lengths(held), bits_of(held.element), numpy_dtype(held.element)
    if width % 8 == 0:
        return _full(np.frombuffer(data, dtype), shape)
    count = int(np.prod(shape, dtype=np.int64))
    if width == 1 and len(data) == count:
        return _full((np.frombuffer(data, np.uint8) != 0).astype(dtype), shape)
    # what does not divide a byte may be filled up to whole groups of three bytes, which it does divide
    if len(data) not in {-(-count * width // 8), -(-count * width // 24) * 3 if 8 % width else -1}:
        raise ValueError(f"a constant of {kind} has {len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * width].reshape(count, width)
    codes = (bits << np.arange(width, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if held.element.startswith("si"):
        codes = np.where(codes >> (width - 1), codes.astype(np.int16) - (1 << width), codes).astype(np.int8)
    # ml_dtypes keeps each element of a few bits in a byte; a float of 4 bits by its bits
    numbers = codes.view(dtype) if held.element.startswith("f") else codes.astype(dtype)
    shaped: np.ndarray = numbers.reshape(shape)
    return shaped


def _known(kind: str) -> TensorType:
    held = tensor_type(kind)
    if held is None:
        raise ValueError(f"a constant of {kind} is no tensor")
    return held


def _lengths(held: TensorType) -> tuple[int, ...]:
    known = tuple(n for n in held.shape if n is not None)
    if len(known) < len(held.shape):
        raise ValueError(f"a constant of {held} has no fixed shape")
    return known


def _full(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array in its shape; one element stands for all."""
    if array.size == 1 and int(np.prod(shape, dtype=np.int64)) != 1:
        return np.full(shape, array.reshape(())[()], array.dtype)
    return array.reshape(shape)
