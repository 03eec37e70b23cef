"""Protobuf bytes that change only where the message did: the rest of an edited file stays byte for byte as it was.

Serialising a parsed message loses how its writer spelled it: the order of fields and map entries, numbers packed or one by one,
default values written out, lengths with spare bytes. ``respell`` walks the original bytes beside the edited message instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import blake2b
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_STRINGS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def respell(original: bytes, edited: Message) -> bytes:
    """The bytes of ``edited``, in which every part that it shares with ``original`` keeps the bytes that it had there.

    Messages inside that are equal keep theirs whole, changed ones are gone into; repeated ones are aligned, entries of maps go by
    their keys; new fields come last. Parsing the result gives ``edited``. Raises DecodeError where ``original`` does not parse.
    """
    old = type(edited)()
    old.ParseFromString(original)
    if _same(old, edited):
        return original
    spelled = rewrite(original, old, edited)
    check = type(edited)()
    check.ParseFromString(spelled)
    # Two spellings of one oneof, or unknown fields of a message that was made anew: then the plain spelling is the safe one.
    return spelled if _same(check, edited) else edited.SerializeToString(deterministic=True)


def _same(a: Message, b: Message) -> bool:
    """Equal to the bit: == takes -0 for 0, and NaN for unequal to itself."""
    return a.ByteSize() == b.ByteSize() and _plain(a) == _plain(b)


def _plain(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


# reading


@dataclass(frozen=True)
class Record:
    """One field as it is spelled: ``data`` from its tag to its end, the content from ``content`` on."""

    number: int
    wire: int
    data: bytes
    content: int

    @property
    def payload(self) -> bytes:
        return self.data[self.content :]


def records(data: bytes) -> Iterator[Record]:
    """The fields of a message in the order in which they are written."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _varint(data, position)
        content, end = _extent(data, tag, position)
        yield Record(tag >> 3, tag & 7, data[start:end], content - start)
        position = end


def _extent(data: bytes, tag: int, position: int) -> tuple[int, int]:
    """Where the content of a field starts and ends."""
    wire = tag & 7
    if wire == _BYTES:
        length, position = _varint(data, position)
        return position, position + length
    if wire == _VARINT:
        return position, _varint(data, position)[1]
    if wire == _GROUP:
        start = position
        while True:
            inner, position = _varint(data, position)
            if inner & 7 == _GROUP_END:
                return start, position
            position = _extent(data, inner, position)[1]
    return position, position + (8 if wire == _FIXED64 else 4)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varint_bytes(value: int) -> bytes:
    spelled = bytearray()
    while value > 0x7F:
        spelled.append(value & 0x7F | 0x80)
        value >>= 7
    spelled.append(value)
    return bytes(spelled)


def field_bytes(number: int, content: bytes) -> bytes:
    """A message, text or bytes as the field of that number, as it is written."""
    return _varint_bytes(number << 3 | _BYTES) + _varint_bytes(len(content)) + content


# writing


def rewrite(original: bytes, old: Message, new: Message) -> bytes:
    """``new`` in the spelling of ``original``, which parses to ``old``: every field is looked at, whether changed or not."""
    slots = list(records(original))
    places: dict[int, list[int]] = {}
    for place, record in enumerate(slots):
        places.setdefault(record.number, []).append(place)
    spelled: list[bytes] = [record.data for record in slots]
    added: list[bytes] = []
    for field in _fields(old, new):
        mine = [p for p in places.get(field.number, ()) if _parses_as(slots[p], field)]
        if not _changed(field, old, new):
            continue
        if mine:
            _respell_field(field, old, new, mine, slots, spelled)
        else:
            added.append(_spell(field, new))
        for rival in _rivals(field, new):
            for place in places.get(rival, ()):
                spelled[place] = b""
    return b"".join([*spelled, *added])


def _fields(old: Message, new: Message) -> list[FieldDescriptor]:
    known = {f.number: f for message in (old, new) for f, _ in message.ListFields()}
    return [known[number] for number in sorted(known)]


def _parses_as(record: Record, field: FieldDescriptor) -> bool:
    """Whether a parser takes the record for this field: with another wire type it is an unknown field, and kept as such."""
    return record.wire == _wire_type(field) or (field.is_repeated and record.wire == _BYTES)


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


def _rivals(field: FieldDescriptor, new: Message) -> list[int]:
    """The other members of a oneof that is now this field's."""
    oneof = field.containing_oneof
    if oneof is None or new.WhichOneof(oneof.name) != field.name:
        return []
    return [f.number for f in oneof.fields if f.number != field.number]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _only(field: FieldDescriptor, message: Message) -> Message:
    """A message with this field and nothing else."""
    only = type(message)()
    value = getattr(message, field.name)
    if field.is_repeated:
        getattr(only, field.name).MergeFrom(value)
    elif field.message_type is None:
        if not field.has_presence or message.HasField(field.name):
            setattr(only, field.name, value)
    elif message.HasField(field.name):
        getattr(only, field.name).CopyFrom(value)
    return only


def _spell(field: FieldDescriptor, message: Message) -> bytes:
    return _plain(_only(field, message))


def _changed(field: FieldDescriptor, old: Message, new: Message) -> bool:
    if field.message_type is not None and not field.is_repeated:
        if old.HasField(field.name) != new.HasField(field.name):
            return True
        return not _same(getattr(old, field.name), getattr(new, field.name))
    if field.message_type is not None and not _is_map(field):
        before, after = getattr(old, field.name), getattr(new, field.name)
        return len(before) != len(after) or not all(map(_same, before, after))
    return _spell(field, old) != _spell(field, new)


def _respell_field(
    field: FieldDescriptor,
    old: Message,
    new: Message,
    mine: Sequence[int],
    slots: Sequence[Record],
    spelled: list[bytes],
) -> None:
    """Puts the new spelling of one field into ``spelled``, at the places where the original has it."""
    if _is_map(field):
        chunks = _respell_map(field, new, [slots[p] for p in mine])
    elif field.is_repeated and field.message_type is not None:
        chunks = _respell_messages(field, old, new, [slots[p] for p in mine])
    elif field.is_repeated and field.type in _STRINGS:
        chunks = _respell_strings(field, old, new, [slots[p] for p in mine])
    elif field.is_repeated:
        chunks = [_respell_numbers(field, new, slots[mine[0]]), *(b"" for _ in mine[1:])]
    elif field.message_type is not None and len(mine) == 1 and new.HasField(field.name):
        inner = rewrite(slots[mine[0]].payload, getattr(old, field.name), getattr(new, field.name))
        chunks = [field_bytes(field.number, inner)]
    else:
        chunks = [*(b"" for _ in mine[1:]), _spell(field, new)]
    for place, chunk in zip(mine, chunks, strict=True):
        spelled[place] = chunk


def _respell_numbers(field: FieldDescriptor, new: Message, first: Record) -> bytes:
    """A list of numbers, packed or one by one as it was."""
    natural = list(records(_spell(field, new)))
    if not natural:
        return b""
    packed, was_packed = natural[0].wire == _BYTES, first.wire == _BYTES
    if packed == was_packed:
        return b"".join(r.data for r in natural)
    if was_packed:
        return field_bytes(field.number, b"".join(r.payload for r in natural))
    tag = _varint_bytes(field.number << 3 | _wire_type(field))
    content, position, spelled = natural[0].payload, 0, bytearray()
    while position < len(content):
        end = _extent(content, _wire_type(field), position)[1]
        spelled += tag + content[position:end]
        position = end
    return bytes(spelled)


def _respell_map(field: FieldDescriptor, new: Message, entries: Sequence[Record]) -> list[bytes]:
    """Entries in their places, by key; new ones behind the last."""
    from google.protobuf.message_factory import GetMessageClass

    assert field.message_type is not None
    kind = GetMessageClass(field.message_type)
    wanted = {_key(entry): entry for entry in (_entry(kind, r) for r in records(_spell(field, new)))}
    olds = [_entry(kind, record) for record in entries]
    last = {_key(entry): place for place, entry in enumerate(olds)}
    chunks = []
    for place, (record, entry) in enumerate(zip(entries, olds, strict=True)):
        target = wanted.get(_key(entry))
        if target is None or last[_key(entry)] != place:
            chunks.append(b"")
        elif _same(entry, target):
            chunks.append(record.data)
        else:
            chunks.append(field_bytes(field.number, rewrite(record.payload, entry, target)))
    fresh = [entry for key, entry in wanted.items() if key not in last]
    chunks[-1] += b"".join(field_bytes(field.number, _plain(entry)) for entry in fresh)
    return chunks


def _entry(kind: Any, record: Record) -> Any:
    entry = kind()
    entry.ParseFromString(record.payload)
    return entry


def _key(entry: Any) -> Any:
    return entry.key


def _respell_strings(field: FieldDescriptor, old: Message, new: Message, spelled: Sequence[Record]) -> list[bytes]:
    def content(value: str | bytes) -> bytes:
        return value.encode() if isinstance(value, str) else value

    before = [content(v) for v in getattr(old, field.name)]
    after = [content(v) for v in getattr(new, field.name)]
    chunks = [b"" for _ in spelled]
    for i, j, place in _aligned(before, after):
        chunks[place] += (
            spelled[i].data if i is not None and before[i] == after[j] else field_bytes(field.number, after[j])
        )
    return chunks


def _respell_messages(field: FieldDescriptor, old: Message, new: Message, spelled: Sequence[Record]) -> list[bytes]:
    """Equal messages keep their bytes, also where they moved; changed ones are gone into."""
    before, after = list(getattr(old, field.name)), list(getattr(new, field.name))
    digests = [_digest(message) for message in before]
    wanted = [_digest(message) for message in after]
    known = dict(zip(digests, spelled, strict=True))
    chunks = [b"" for _ in spelled]
    for i, j, place in _aligned(digests, wanted, [_name(m) for m in before], [_name(m) for m in after]):
        if i is not None and digests[i] == wanted[j]:
            chunks[place] += spelled[i].data
        elif wanted[j] in known:
            chunks[place] += known[wanted[j]].data
        elif i is not None:
            chunks[place] += field_bytes(field.number, rewrite(spelled[i].payload, before[i], after[j]))
        else:
            chunks[place] += field_bytes(field.number, _plain(after[j]))
    return chunks


def _digest(message: Message) -> bytes:
    return blake2b(_plain(message), digest_size=16).digest()


def _name(message: Any) -> str:
    name = getattr(message, "name", "")
    return name if isinstance(name, str) else ""


def _aligned(
    before: Sequence[bytes], after: Sequence[bytes], names: Sequence[str] = (), new_names: Sequence[str] = ()
) -> Iterator[tuple[int | None, int, int]]:
    """For each item of ``after``: the item of ``before`` that it comes from (None: new), its own index, its place among them."""
    start, count = 0, min(len(before), len(after))
    while start < count and before[start] == after[start]:
        yield start, start, start
        start += 1
    behind = 0
    while behind < count - start and before[-1 - behind] == after[-1 - behind]:
        behind += 1
    end, new_end = len(before) - behind, len(after) - behind
    matcher = SequenceMatcher(None, before[start:end], after[start:new_end], autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        olds, news = range(start + i1, start + i2), range(start + j1, start + j2)
        if kind == "equal":
            yield from ((i, j, i) for i, j in zip(olds, news, strict=True))
            continue
        origin = _paired(olds, news, names, new_names)
        for step, j in enumerate(news):
            place = olds[min(step, len(olds) - 1)] if olds else max(start + i1 - 1, 0)
            yield origin.get(j), j, place
    for step in range(behind):
        yield end + step, new_end + step, end + step


def _paired(
    olds: Sequence[int], news: Sequence[int], names: Sequence[str], new_names: Sequence[str]
) -> Mapping[int, int]:
    """Which new item is which old one, changed: by name where they have names, else in order."""
    if not names or not any(names[i] for i in olds):
        return dict(zip(news, olds, strict=False))
    free = {names[i]: i for i in reversed(olds)}
    pairs = {j: free.pop(new_names[j]) for j in news if new_names[j] in free}
    if len(olds) == len(news):
        rest = _without(news, pairs), _without(olds, pairs.values())
        pairs.update(zip(*rest, strict=True))
    return pairs


def _without(items: Iterable[int], taken: Iterable[int]) -> list[int]:
    gone = set(taken)
    return [item for item in items if item not in gone]
