"""Protobuf bytes that change only where the message did: the rest of an edited file stays byte for byte as it was.

Serialising a parsed message loses how its writer spelled it: the order of fields and map entries, numbers packed or one by one,
default values written out, lengths with spare bytes. ``reserialise`` walks the original bytes beside the edited message instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from mmap import mmap
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from coreproof.model.files.sequence_diff import align

Bytes = bytes | memoryview

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_STRINGS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def reserialise(original: bytes, edited: Message) -> bytes:
    """The bytes of ``edited``, in which every part that it shares with ``original`` keeps the bytes that it had there.

    Messages inside that are equal keep theirs whole, changed ones are gone into; repeated ones are aligned, entries of maps go by
    their keys; new fields come last. Parsing the result gives ``edited``, whatever ``original`` is.
    """
    try:
        reserialised = rewrite(original, edited)
        check = type(edited)()
        check.ParseFromString(reserialised)
    except DecodeError:
        return _plain(edited)
    return reserialised if _equal(check, edited) else _plain(edited)


def _plain(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _equal(a: Message, b: Message) -> bool:
    """Equal to the bit: == takes -0 for 0, and NaN for unequal to itself. In small pieces, which is faster than in one."""
    if _unknown(a) != _unknown(b):
        return False
    for field in _fields(a, b):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if _is_map(field) or field.type != FieldDescriptor.TYPE_MESSAGE:
            if _spell(field, a) != _spell(field, b):
                return False
        elif field.is_repeated:
            if len(x) != len(y) or any(_plain(m) != _plain(n) for m, n in zip(x, y, strict=True)):
                return False
        elif a.HasField(field.name) != b.HasField(field.name) or not _equal(x, y):
            return False
    return True


def _unknown(message: Message) -> list[object]:
    """The fields that this version of the format does not know, which == overlooks."""

    def told(fields: UnknownFieldSet) -> list[object]:
        each = (fields[place] for place in range(len(fields)))
        return [(f.field_number, told(f.data) if f.wire_type == _GROUP else f.data) for f in each]

    return told(UnknownFieldSet(message))


# reading


@dataclass(frozen=True)
class Record:
    """One field as it is reserialised: ``data`` from its tag to its end, the content from ``content`` on."""

    number: int
    wire: int
    data: Bytes
    content: int

    @property
    def payload(self) -> Bytes:
        """The bytes of the field, without its tag and length."""
        return self.data[self.content :]


class Extent(NamedTuple):
    """Where a field stands: its tag begins at ``start``, its content at ``content``."""

    number: int
    wire: int
    start: int
    content: int
    end: int


def extents(data: Bytes | mmap, start: int, end: int) -> Iterator[Extent]:
    """The fields of the message between two places, in the order in which they are written; nothing is copied.

    Raises DecodeError where they are cut short.
    """
    while start < end:
        tag, position = _varint(data, start)
        content, behind = _extent(data, tag, position)
        if behind > end:
            raise DecodeError("a field reaches beyond the end of its message")
        yield Extent(tag >> 3, tag & 7, start, content, behind)
        start = behind


def records(data: Bytes) -> Iterator[Record]:
    """The fields of a message in the order in which they are written. Raises DecodeError where they are cut short."""
    for number, wire, start, content, end in extents(data, 0, len(data)):
        yield Record(number, wire, data[start:end], content - start)


def _extent(data: Bytes | mmap, tag: int, position: int) -> tuple[int, int]:
    """Where the content of a field starts and ends."""
    wire = tag & 7
    if wire == _VARINT:
        return position, _varint(data, position)[1]
    if wire == _GROUP:
        start, depth = position, 1
        while depth:  # counted, not called: a file may nest groups deeper than any stack
            inner, position = _varint(data, position)
            if inner & 7 in (_GROUP, _GROUP_END):
                depth += 1 if inner & 7 == _GROUP else -1
            else:
                position = _extent(data, inner, position)[1]
        return start, position
    length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
    if wire == _BYTES:
        length, position = _varint(data, position)
    if length is None or position + length > len(data):
        raise DecodeError("a field reaches beyond the end of its message")
    return position, position + length


def _varint(data: Bytes | mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    # ten bytes of seven bits hold 64; more is no number (protobuf, encoding)
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise DecodeError("a number is cut short")


def varint_bytes(value: int) -> bytes:
    """A whole number as it is written: seven bits a byte, the lowest first (Protocol Buffers, Encoding)."""
    reserialised = bytearray()
    while value > 0x7F:
        # the lowest seven bits first, the high bit says that more follow
        reserialised.append(value & 0x7F | 0x80)
        value >>= 7
    reserialised.append(value)
    return bytes(reserialised)


def field_bytes(number: int, content: Bytes) -> bytes:
    """A message, text or bytes as the field of that number, as it is written."""
    return varint_bytes(number << 3 | _BYTES) + varint_bytes(len(content)) + content


# writing


def rewrite(original: Bytes, new: Message) -> bytes:
    """``new`` in the spelling of ``original``: field by field, each as it was where it parses to the same."""
    slots = list(records(memoryview(original)))
    places: dict[int, list[int]] = {}
    for place, record in enumerate(slots):
        places.setdefault(record.number, []).append(place)
    reserialised: list[Bytes] = [record.data for record in slots]
    added: list[bytes] = []
    chosen = _settle_oneofs(new, slots, reserialised)
    known: dict[int, Any] = {f.number: f for f, _ in new.ListFields()}
    known.update({n: f for n in places if (f := new.DESCRIPTOR.fields_by_number.get(n)) is not None})
    for number in sorted(known):
        field = known[number]
        own = [p for p in places.get(number, ()) if _parses_as(slots[p], field)]
        if field.containing_oneof is not None and chosen[field.containing_oneof.name] != number:
            continue
        if not own:
            added.append(_spell(field, new))
            continue
        chunks = _reserialise_field(field, new, [slots[p] for p in own], slots)
        for place, chunk in zip(own, chunks, strict=True):
            reserialised[place] = chunk
    return b"".join([*reserialised, *added])


def _settle_oneofs(new: Message, slots: Sequence[Record], reserialised: list[Bytes]) -> Mapping[str, int | None]:
    """oneof -> the number of its field that is set now; where it was another one, all that was written for others goes."""
    chosen: dict[str, int | None] = {}
    for oneof in new.DESCRIPTOR.oneofs:
        numbers: dict[int, Any] = {f.number: f for f in oneof.fields}
        name = new.WhichOneof(oneof.name)
        now = None if name is None else new.DESCRIPTOR.fields_by_name[name].number
        written = [p for p, r in enumerate(slots) if r.number in numbers and _parses_as(r, numbers[r.number])]
        # the field of a oneof that is written last wins
        if written and slots[written[-1]].number != now:
            for place in written:
                if slots[place].number != now:
                    reserialised[place] = b""
        chosen[oneof.name] = now
    return chosen


def _fields(*messages: Message) -> list[FieldDescriptor]:
    known = {f.number: f for message in messages for f, _ in message.ListFields()}
    return [known[number] for number in sorted(known)]


def _parses_as(record: Record, field: FieldDescriptor) -> bool:
    """Whether a parser takes the record for this field: with another wire type it is an unknown field, and kept as such."""
    # parsers take numbers packed and one by one, whatever the schema says
    packable = field.is_repeated and field.message_type is None and field.type not in _STRINGS
    return record.wire == _wire_type(field) or (packable and record.wire == _BYTES)


def _wire_type(field: FieldDescriptor) -> int:
    kind = field.type
    if kind in (*_STRINGS, FieldDescriptor.TYPE_MESSAGE):
        return _BYTES
    if kind == FieldDescriptor.TYPE_GROUP:
        return _GROUP
    if kind in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64):
        return _FIXED64
    if kind in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32):
        return _FIXED32
    return _VARINT


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _spell(field: FieldDescriptor, message: Message) -> bytes:
    """A field as protobuf writes it; nothing where it is not there."""
    only = type(message)()
    value = getattr(message, field.name)
    if field.is_repeated:
        getattr(only, field.name).MergeFrom(value)
    elif field.has_presence and not message.HasField(field.name):
        return b""
    elif field.message_type is None:
        setattr(only, field.name, value)
    else:
        getattr(only, field.name).CopyFrom(value)
    return _plain(only)


def _reserialise_field(
    field: FieldDescriptor, new: Message, own: Sequence[Record], slots: Sequence[Record]
) -> Sequence[Bytes]:
    """What comes in the places where the original has this field."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if _is_map(field):
            return _reserialise_map(field, new, own)
        if field.is_repeated:
            return _reserialise_messages(field, getattr(new, field.name), own)
        # several records of one message are merged by a parser: those are written anew, as one
        if len(own) == 1 and new.HasField(field.name):
            inner = rewrite(own[0].payload, getattr(new, field.name))
            return [own[0].data if _same_bytes(inner, own[0].payload) else field_bytes(field.number, inner)]
    elif field.is_repeated and field.type in _STRINGS:
        return _reserialise_strings(field, getattr(new, field.name), own)
    rivals = [f.number for f in field.containing_oneof.fields] if field.containing_oneof is not None else [field.number]
    old = type(new)()
    # with its rivals of a oneof, of which the last one counts
    old.ParseFromString(b"".join(r.data for r in slots if r.number in rivals))
    if _spell(field, old) == _spell(field, new):
        return [record.data for record in own]
    if field.is_repeated:
        return [_reserialise_numbers(field, new, own[0]), *(b"" for _ in own[1:])]
    # of a single value a parser takes the last record: that one is written anew
    return [*(b"" for _ in own[1:]), _spell(field, new)]


def _reserialise_numbers(field: FieldDescriptor, new: Message, first: Record) -> bytes:
    """A list of numbers, packed or one by one as it was."""
    natural = list(records(_spell(field, new)))
    if not natural:
        return b""
    packed, was_packed = natural[0].wire == _BYTES, first.wire == _BYTES
    if packed == was_packed:
        return b"".join(r.data for r in natural)
    if was_packed:
        return field_bytes(field.number, b"".join(r.payload for r in natural))
    tag = varint_bytes(field.number << 3 | _wire_type(field))
    content, position, reserialised = natural[0].payload, 0, bytearray()
    while position < len(content):
        end = _extent(content, _wire_type(field), position)[1]
        reserialised += tag + content[position:end]
        position = end
    return bytes(reserialised)


def _reserialise_map(field: FieldDescriptor, new: Message, entries: Sequence[Record]) -> list[Bytes]:
    """Entries in their places, by key; new ones behind the last."""
    kind = _class(field)
    wanted = {_key(kind, record): kind.FromString(bytes(record.payload)) for record in records(_spell(field, new))}
    keys = [_key(kind, record) for record in entries]
    last = {key: place for place, key in enumerate(keys)}
    chunks: list[Bytes] = []
    for place, (record, key) in enumerate(zip(entries, keys, strict=True)):
        if key not in wanted:
            chunks.append(b"")
        elif last[key] != place:
            chunks.append(record.data)  # a parser takes the later one
        else:
            inner = rewrite(record.payload, wanted[key])
            chunks.append(record.data if _same_bytes(inner, record.payload) else field_bytes(field.number, inner))
    fresh = [_plain(entry) for key, entry in wanted.items() if key not in last]
    chunks[-1] = b"".join([chunks[-1], *(field_bytes(field.number, data) for data in fresh)])
    return chunks


def _class(field: FieldDescriptor) -> type[Message]:
    assert field.message_type is not None
    return GetMessageClass(field.message_type)


def _key(kind: type[Message], entry: Record) -> object:
    """The key of a map's entry, field 1 of it, without parsing its value; None for the empty one, which is not written."""
    alone = kind.FromString(b"".join(r.data for r in records(entry.payload) if r.number == 1))
    return next((value for _, value in alone.ListFields()), None)


def _reserialise_strings(field: FieldDescriptor, values: Sequence[str | bytes], own: Sequence[Record]) -> list[Bytes]:
    before = [bytes(record.payload) for record in own]
    after = [v.encode() if isinstance(v, str) else v for v in values]
    chunks: list[list[Bytes]] = [[] for _ in own]
    aligned = align(len(before), len(after), lambda i, j: before[i] == after[j], before.__getitem__, after.__getitem__)
    for step in aligned:
        kept = step.unchanged and step.old is not None
        chunks[step.place].append(own[step.old or 0].data if kept else field_bytes(field.number, after[step.new]))
    return _joined(chunks)


def _joined(chunks: Sequence[Sequence[Bytes]]) -> list[Bytes]:
    """What comes in each place; what stayed alone there is not copied."""
    return [parts[0] if len(parts) == 1 else b"".join(parts) for parts in chunks]


def _reserialise_messages(field: FieldDescriptor, messages: Sequence[Message], own: Sequence[Record]) -> list[Bytes]:
    """Equal messages keep their bytes, also where they moved; changed ones are gone into."""
    kind = _class(field)

    def old(i: int) -> Message:
        return kind.FromString(bytes(own[i].payload))

    def same(i: int, j: int) -> bool:
        plain = _plain(messages[j])
        return _same_bytes(own[i].payload, plain) or _plain(old(i)) == plain

    chunks: list[list[Bytes]] = [[] for _ in own]
    aligned = align(
        len(own),
        len(messages),
        same,
        lambda i: _digest(old(i)),
        lambda j: _digest(messages[j]),
        lambda i: _name(old(i)),
        lambda j: _name(messages[j]),
    )
    for step in aligned:
        message = messages[step.new]
        if step.old is None:
            chunk: Bytes = field_bytes(field.number, _plain(message))
        elif step.unchanged:
            chunk = own[step.old].data
        else:
            chunk = field_bytes(field.number, rewrite(own[step.old].payload, message))
        chunks[step.place].append(chunk)
    return _joined(chunks)


def _same_bytes(a: Bytes, b: Bytes) -> bool:
    return len(a) == len(b) and bytes(a) == bytes(b)


def _digest(message: Message) -> bytes:
    return blake2b(_plain(message), digest_size=16).digest()


def _name(message: object) -> str:
    name = getattr(message, "name", "")
    return name if isinstance(name, str) else ""
