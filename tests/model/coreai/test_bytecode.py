"""What MLIR's bytecode keeps beside a graph: files put together byte by byte after the format's own description."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.model.coreai.bytecode import resources


def _number(value: int) -> bytes:
    """In the fewest bytes: as many zeros before the first one, from below, as bytes follow the first."""
    for more in range(8):
        if value < 1 << 7 * (more + 1):
            return ((value << 1 | 1) << more).to_bytes(more + 1, "little")
    return b"\0" + value.to_bytes(8, "little")


def _section(kind: int, data: bytes, aligned_at: int | None = None) -> bytes:
    """``aligned_at``: where it begins in the file, for one that is aligned to 16 bytes."""
    if aligned_at is None:
        return bytes([kind]) + _number(len(data)) + data
    head = bytes([kind | 0x80]) + _number(len(data)) + _number(16)
    return head + b"\xcb" * (-(aligned_at + len(head)) % 16) + data


def _blob(data: bytes, at: int) -> bytes:
    head = _number(16) + _number(len(data))
    return head + b"\xcb" * (-(at + len(head)) % 16) + data


def _file(entries: dict[str, bytes], *, whose: bytes | None = None, declared: str | None = None) -> bytes:
    names = [*entries, *([] if declared is None else [declared])]
    texts = _number(len(names)) + b"".join(_number(len(n.encode()) + 1) for n in reversed(names))
    texts += b"".join(n.encode() + b"\0" for n in names)
    held, sizes = b"", []
    for data in entries.values():
        entry = _blob(data, len(held))
        held, sizes = held + entry, [*sizes, len(entry)]
    sizes += [0] * (declared is not None)
    group = _number(3) + _number(len(names)) + b"".join(_number(i) + _number(n) + b"\0" for i, n in enumerate(sizes))
    file = b"ML\xefR" + _number(6) + b"MLIR22.0.0git\0" + _section(1, b"dialects")
    file += _section(6, _number(0) + group if whose is None else whose)
    return file + _section(5, held, len(file)) + _section(0, texts)


def _found(file: bytes) -> dict[str, bytes]:
    return {name: data.tobytes() for name, data in resources(np.frombuffer(file, np.uint8)).items()}


@pytest.mark.parametrize("long", [1, 127, 128, 20_000, 3_000_000])
def test_bytes_are_found_by_name_whatever_their_number(long: int) -> None:
    entries = {"weight": bytes(range(1, 100)), "größer": b"\x07" * long, "after": b"end"}
    assert _found(_file(entries)) == entries


def test_one_that_is_only_declared_has_no_bytes() -> None:
    assert _found(_file({"weight": b"abc"}, declared="elsewhere")) == {"weight": b"abc"}


def test_a_program_without_any_has_none() -> None:
    assert _found(b"ML\xefR" + _number(6) + b"MLIR\0" + _section(0, _number(0))) == {}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "begin"),
        (b"PK\x03\x04" + bytes(40), "begin"),
        (b"ML\xefR" + _number(6) + b"MLIR", "ends at"),
        (b"ML\xefR" + _number(6) + b"MLIR\0" + _section(6, _number(0)), "no section 0"),
        (_file({"a": b"abc"})[:-3], "ends at"),
        (_file({"a": b"abc"}, whose=_number(0) + _number(3) + _number(1) + _number(9) + _number(3) + b"\0"), "where none"),
        (_file({"a": b"abc"}, whose=_number(0) + _number(3) + _number(1) + _number(0) + _number(999) + b"\0"), "where none"),
        (_file({"a": b"abc"}, whose=_number(0) + _number(3) + _number(2**62)), "ends at"),
        (b"ML\xefR" + _number(6) + b"MLIR\0" + bytes([0x85]) + _number(1) + _number(3) + b"x", "aligns to 3"),
        (b"ML\xefR" + _number(6) + b"MLIR\0" + b"".join(_section(k, _number(2**63)) for k in (6, 5, 0)), "holds"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(file: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _found(file)
