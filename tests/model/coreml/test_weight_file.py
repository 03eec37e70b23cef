"""weight.bin as our reader sees it and as Apple's native library writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.model.coreml.weight_file import WeightFile, unpack_bits

native = pytest.importorskip("coremltools.libmilstoragepython", reason="coremltools' native storage library is absent")


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int8", "int16", "uint16", "int32", "uint32"])
def test_reads_what_apple_writes(tmp_path: Path, dtype: str) -> None:
    values = (np.random.default_rng(0).normal(size=37) * 50).astype(dtype)
    path = tmp_path / "weight.bin"
    writer = native._BlobStorageWriter(str(path))
    short = {"float16": "fp16"}.get(dtype, "float" if dtype == "float32" else dtype)
    stored = np.frombuffer(values.tobytes(), np.uint16) if dtype == "float16" else values
    offset = getattr(writer, f"write_{short}_data")(stored)
    del writer
    np.testing.assert_array_equal(WeightFile(path).read(offset), values)


@pytest.mark.parametrize(("bits", "signed"), [(1, False), (2, False), (3, False), (4, False), (4, True), (6, False)])
def test_unpacks_integers_below_a_byte(bits: int, signed: bool) -> None:
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    values = np.random.default_rng(1).integers(low, high, 41)
    stream = 0
    for position, value in enumerate(values):
        stream |= (int(value) & (1 << bits) - 1) << position * bits
    packed = np.frombuffer(stream.to_bytes((41 * bits + 7) // 8, "little"), np.uint8)
    np.testing.assert_array_equal(unpack_bits(packed, bits, 41, signed=signed), values)
