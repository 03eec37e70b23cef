"""Damage to pictures: what a PNG's chunks say (with checksums that fit), sizes in headers, other formats under the name."""

from __future__ import annotations

import struct
import zlib
from random import Random

from conformance.fuzz.damage_bytes import damage_bytes

_PNG = b"\x89PNG\r\n\x1a\n"
_DISGUISES = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", b"GIF89a\xff\xff\xff\xff\0\0\0", b"P6\n99999 99999\n255\n",
    b"P5\n-1 4\n255\n\0\0\0\0", b"BM" + b"\0" * 52, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"II*\0\x08\0\0\0\xff\xff",
    b"", b"\0",
    b"RIFF\xff\xff\xff\xffWEBPVP8L", b"\xff\xd8\xff\xd9", b"8BPS\0\1" + b"\0" * 30,
    b"#define x_width 99999\n#define x_height 9\n",
)  # fmt: skip


def damage_picture(rng: Random, data: bytes) -> tuple[bytes, str]:
    """A damaged picture."""
    draw = rng.random()
    if draw < 0.1:
        return rng.choice(_DISGUISES), "picture: another format"
    if not data.startswith(_PNG) or draw < 0.4:
        return damage_bytes(rng, data)
    return _png(rng, data)


def _png(rng: Random, data: bytes) -> tuple[bytes, str]:
    chunks, place = [], len(_PNG)
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return damage_bytes(rng, data)
    way = rng.choice(("header", "header", "drop", "double", "move", "body", "name", "add"))
    index = rng.randrange(len(chunks))
    name, body = chunks[index]
    if way == "header" and len(chunks[0][1]) == 13:
        field = rng.randrange(7)
        values = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        values[field] = rng.choice(
            (0, 1, 7, 100_000, 2**31 - 1, 2**32 - 1) if field < 2 else (0, 1, 2, 3, 4, 6, 9, 16, 255)
        )
        chunks[0] = (chunks[0][0], struct.pack(">IIBBBBB", *values))
    elif way == "drop":
        del chunks[index]
    elif way == "double":
        chunks.insert(index, chunks[index])
    elif way == "move":
        rng.shuffle(chunks)
    elif way == "body":
        chunks[index] = name, damage_bytes(rng, body)[0]
    elif way == "name":
        chunks[index] = rng.choice((b"tRNS", b"PLTE", b"iCCP", b"eXIf", b"zTXt", b"acTL", b"fdAT", b"\0\0\0\0")), body
    else:
        bomb = zlib.compress(b"\0" * (1 << 22))
        chunks.insert(1, rng.choice(((b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"x\0\0" + bomb), (b"gAMA", b"\0\0\0\0"))))
    made = b"".join(struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return _PNG + made, f"png: {way}"
