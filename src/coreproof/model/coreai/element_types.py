"""What Core AI's element and value types are called in MLIR's text, and in NumPy's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

DTYPES: Mapping[str, str] = {
    **{f"{sign}i{bits}": f"{name}{bits}" for sign, name in (("s", "int"), ("u", "uint")) for bits in (2, 4, 8, 16, 32, 64)},
    "i1": "bool",
    "ui1": "uint8",
    "ui3": "uint8",
    "ui6": "uint8",
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "f4E2M1FN": "float4_e2m1fn",
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
    "f8E8M0FNU": "float8_e8m0fnu",
    "complex<f32>": "complex64",
}  # fmt: skip
"""Element type -> the NumPy dtype whose arrays hold it, by name; where NumPy has none of that width, a wider one."""

_TENSOR = re.compile(r"tensor<((?:(?:\d+|\?)x)*)(complex<\w+>|\w+)(?:, [^\0]*)?>")
_HANDLE = re.compile(r"!coreai\.handle<(.*)>", re.DOTALL)


@dataclass(frozen=True)
class TensorType:
    """The type of a tensor: its element type as MLIR writes it, and its lengths, None where one is known at run time only.

    ``state``: it is the handle of one, which is read and written.
    """

    element: str
    shape: tuple[int | None, ...]
    state: bool = False

    @property
    def dtype(self) -> str | None:
        """NumPy's name of the dtype; None where it has none."""
        return DTYPES.get(self.element)

    @property
    def is_complex(self) -> bool:
        """Whether its elements are complex: outside of Core AI they stand as pairs along a last axis."""
        return self.element.startswith("complex<")

    @property
    def text(self) -> str:
        """The type as MLIR writes it: of a state that of its handle."""
        return f"!coreai.handle<{self}>" if self.state else str(self)

    def __str__(self) -> str:
        lengths = "".join(f"{'?' if n is None else n}x" for n in self.shape)
        return f"tensor<{lengths}{self.element}>"


def tensor_type(text: str) -> TensorType | None:
    """The type that MLIR writes as ``text``, of a state that of the tensor it holds; None for what is no tensor."""
    handle = _HANDLE.fullmatch(text)
    found = _TENSOR.fullmatch(text if handle is None else handle[1])
    if found is None:
        return None
    shape = tuple(None if n == "?" else int(n) for n in found[1].split("x")[:-1])
    return TensorType(found[2], shape, handle is not None)


def bits_of(element: str) -> int:
    """How many bits an element takes where several share a byte; whole bytes for all others."""
    named = re.fullmatch(r"[su]?i(\d+)|f(4)E2M1FN", element)
    if named is not None:
        return int(named[1] or named[2])
    return numpy_dtype(element).itemsize * 8


def numpy_dtype(element: str) -> np.dtype:
    """The dtype of arrays that hold this element type. Raises ValueError where there is none."""
    name = DTYPES.get(element)
    if name is None:
        raise ValueError(f"elements of type {element} are not known")
    return dtype_named(name)


def dtype_named(name: str) -> np.dtype:
    """A dtype by its name, those of ml_dtypes included. Raises ValueError where there is none."""
    try:
        return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        raise ValueError(f"there is no dtype {name}") from None
