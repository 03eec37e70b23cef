"""Damage to zip archives (.npz, .pt2): members dropped, renamed, doubled, damaged by what they hold; and to .npy headers."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from random import Random

from conformance.fuzz.damage_bytes import damage_bytes
from conformance.fuzz.damage_document import damage_json
from conformance.fuzz.damage_text import STRINGS, damage_lines

_HEADERS = (
    ("'shape': (", "'shape': (-1, "), ("'shape': (", "'shape': (4294967296, "), ("'shape': (", "'shape': ('x', "),
    ("'shape': (", "'shape': (0, "), ("'shape': (", "'shape': (2, "), ("'shape': (", "'shape': (1.5, "),
    ("'shape': ", "'shape': 3 or "),
    ("False", "True"), ("False", "None"), ("'<f4'", "'|O'"), ("'<f4'", "'<f8'"), ("'<f4'", "'<U4'"), ("'<f4'", "'|S0'"),
    ("'<f4'", "'<M8[ns]'"), ("'<f4'", "'nonsense'"), ("'<f4'", "[('a', '<f4')]"), ("'<f4'", "'|V4'"), ("'<f4'", "'<i4'"),
    ("'<f4'", "'<c8'"), ("'<f4'", "'|b1'"), ("'<f4'", "'<f2'"), ("'descr'", "'description'"), ("{", "[" * 300 + "{"), ("}", ""),
    ("'fortran_order'", "'order'"), ("'<f4'", "__import__('os')"), ("'<f4'", "(('<f4'), (2, 2))"), ("'<f4'", "'>f4'"),
)  # fmt: skip


def damage_archive(rng: Random, data: bytes) -> tuple[bytes, str]:
    """A damaged archive; its directory fits its members, seven times in eight."""
    if rng.random() < 0.125:
        return damage_bytes(rng, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # damaged before: whatever zipfile says of it
        return damage_bytes(rng, data)
    if not members:
        return damage_bytes(rng, data)
    index = rng.randrange(len(members))
    name, content = members[index]
    way = rng.choice(("inside",) * 12 + ("drop", "double", "rename", "empty", "swap", "move", "bomb"))
    compression = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    if way == "inside":
        content, done = _damager(name)(rng, content)
        members[index] = name, content
        return _zipped(members, compression), f"{name}: {done}"
    if way == "drop":
        del members[index]
    elif way == "double":
        members.append((name, damage_bytes(rng, content)[0]))
    elif way == "rename":
        members[index] = (
            rng.choice((*STRINGS[:24], "../../outside", "/outside", name + "/", name.upper()))[:200],
            content,
        )
    elif way == "empty":
        members[index] = name, b""
    elif way == "swap":
        other = rng.randrange(len(members))
        members[index], members[other] = (name, members[other][1]), (members[other][0], content)
    elif way == "move":
        rng.shuffle(members)
    else:
        members[index], compression = (name, content + b"\0" * (64 << 20)), zipfile.ZIP_DEFLATED
    return _zipped(members, compression), f"zip: {way} {name}"


def _damager(name: str) -> Callable[[Random, bytes], tuple[bytes, str]]:
    if name.endswith(".npy"):
        return damage_array
    if name.endswith(".json"):
        return damage_json
    if name.endswith((".pt", ".txt", "byteorder", "version")):
        return damage_bytes if name.endswith(".pt") else damage_lines
    return damage_bytes


def _zipped(members: list[tuple[str, bytes]], compression: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        names: set[str] = set()
        for name, content in members:
            if name in names or not name:  # zipfile warns of a name that comes twice, and takes it
                name = f"{name}2"
            names.add(name)
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return made.getvalue()


def damage_array(rng: Random, data: bytes) -> tuple[bytes, str]:
    """A damaged .npy: its header says something else than its data is, or its bytes are damaged."""
    if rng.random() < 0.2 or data[:6] != b"\x93NUMPY" or len(data) < 10:
        return damage_bytes(rng, data)
    (length,) = struct.unpack("<H", data[8:10])
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    way = rng.choice(("header", "header", "header", "shorter", "longer", "version"))
    if way == "header":
        old, new = rng.choice(_HEADERS)
        header = header.rstrip().replace(old, new) + "\n"
        done = f"{old} -> {new}"[:60]
    elif way == "shorter":
        body, done = body[: rng.randrange(len(body) + 1)], "shorter"
    elif way == "longer":
        body, done = body + b"\0" * rng.choice((1, 4, 1000)), "longer"
    else:
        return data[:6] + bytes((rng.choice((0, 2, 3, 9)), 0)) + data[8:], "npy: version"
    encoded = header.encode("latin-1")
    return data[:8] + struct.pack("<H", len(encoded)) + encoded + body, f"npy: {done}"
