"""weight.bin as our reader sees it and as Apple's native library writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.model.coreml.weight_file import BlobWriter, WeightFile, blob_of, unpack_bits

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


_SUB_BYTE = [("int4", np.int8), ("uint1", np.uint8), ("uint2", np.uint8), ("uint3", np.uint8), ("uint4", np.uint8),
             ("uint6", np.uint8)]  # fmt: skip


def test_writes_what_apple_writes(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    theirs, ours = native._BlobStorageWriter(str(tmp_path / "theirs.bin")), BlobWriter(tmp_path / "ours.bin")
    for dtype in ["float16", "float32", "uint8", "int8", "int16", "uint16", "int32", "uint32"]:
        values = (random.normal(size=37) * 50).astype(dtype)
        short = {"float16": "fp16"}.get(dtype, "float" if dtype == "float32" else dtype)
        stored = np.frombuffer(values.tobytes(), np.uint16) if dtype == "float16" else values
        assert getattr(theirs, f"write_{short}_data")(stored) == ours.write(*blob_of(values))
    for name, holder in _SUB_BYTE:
        bits = int(name[-1])
        low, high = (-(1 << bits - 1), 1 << bits - 1) if name == "int4" else (0, 1 << bits)
        for count in (40, 41):
            numbers = random.integers(low, high, count).astype(holder)
            assert getattr(theirs, f"write_{name}_data")(numbers) == ours.write(*blob_of(numbers, name))
    del theirs
    ours.close()
    assert (tmp_path / "ours.bin").read_bytes() == (tmp_path / "theirs.bin").read_bytes()


def test_what_is_mapped_while_it_is_written_stays_and_leaves_no_gap(tmp_path: Path) -> None:
    path, values = tmp_path / "weight.bin", np.arange(3000, dtype=np.float32)
    out = BlobWriter(path)
    first = out.write(*blob_of(values))
    seen = out.mapped(first, values.dtype, (30, 100))
    second = out.write(*blob_of(values[:5]))
    np.testing.assert_array_equal(seen, values.reshape(30, 100))
    out.close()
    np.testing.assert_array_equal(WeightFile(path).read(second), values[:5])
    assert path.stat().st_size == second + 64 + 20
    again = BlobWriter(path)  # goes on behind what stands there
    third = again.copy(again, first)
    again.close()
    for offset in (first, third):
        np.testing.assert_array_equal(WeightFile(path).read(offset), values)
    np.testing.assert_array_equal(seen, values.reshape(30, 100))
