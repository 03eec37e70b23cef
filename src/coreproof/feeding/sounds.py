"""A .wav file as numbers: floats from -1 to 1, channel by channel; nothing is resampled or mixed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coreproof.errors import InputError
from coreproof.model.files.paths import regular_file

_WHOLE, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
"""Format tags of a WAVE file: pulse code, IEEE floats, and one that says further behind which of them it is."""
_LARGEST = 1 << 31
"""Bytes of a file; RIFF itself counts to twice as many."""


@dataclass(frozen=True)
class Sound:
    """``samples`` [channels, length] from -1 to 1 (floats as they are stored), and how many there are a second."""

    samples: npt.NDArray[np.float32]
    rate: int


def read_sound(path: Path) -> Sound:
    """The samples of a WAVE file (RIFF): 8, 16, 24 and 32 bits, and floats. Raises InputError for anything else."""
    regular_file(path, what="the sound", error=InputError)
    if path.stat().st_size > _LARGEST:
        raise _wrong(path, f"{path.stat().st_size:,} bytes")
    content = path.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise _wrong(path, "no RIFF file of WAVE")
    layout: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        body = content[at + 8 : at + 8 + size]
        if name == b"fmt " and len(body) >= 16:
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
            if tag == _EXTENSIBLE and len(body) >= 26:
                tag = struct.unpack_from("<H", body, 24)[0]
            layout = (tag, channels, rate, bits)
        elif name == b"data" and layout is not None:
            return _decoded(path, body, *layout)
        at += 8 + size + size % 2  # parts begin at even places
    raise _wrong(path, "no samples")


def _decoded(path: Path, body: bytes, tag: int, channels: int, rate: int, bits: int) -> Sound:
    width = bits // 8
    if not channels or not rate or (tag, bits) not in _KINDS:
        raise _wrong(path, f"format {tag} of {bits} bits, {channels} channel(s), {rate} a second")
    whole = len(body) // (width * channels) * width * channels
    if not whole:
        raise _wrong(path, "no samples")
    data = np.frombuffer(body[:whole], np.uint8)
    values: npt.NDArray[np.float32]
    if tag == _FLOAT:
        values = data.view(f"<f{width}").astype(np.float32)
    elif bits == 8:  # the one kind without a sign
        values = ((data.astype(np.float32) - 128) / 128).astype(np.float32)
    else:
        # shifted into the upper bytes of 32 bits, so that one factor does for all
        padded = np.zeros((len(data) // width, 4), np.uint8)
        padded[:, 4 - width :] = data.reshape(-1, width)
        values = (padded.view("<i4").reshape(-1) / 2.0**31).astype(np.float32)
    return Sound(np.ascontiguousarray(values.reshape(-1, channels).T), rate)


_KINDS = frozenset(((_WHOLE, 8), (_WHOLE, 16), (_WHOLE, 24), (_WHOLE, 32), (_FLOAT, 32), (_FLOAT, 64)))


def _wrong(path: Path, found: str) -> InputError:
    return InputError(
        "the sound cannot be read",
        where=str(path),
        expected="a .wav file of 8, 16, 24 or 32 bits, or of floats",
        found=found,
        fix="write it again as .wav: ffmpeg -i FILE -c:a pcm_s16le OUT.wav",
    )
