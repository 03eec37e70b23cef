"""Damage to protobuf messages of any kind, found by their descriptors: ONNX and Core ML alike, and what they may become."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from conformance.fuzz.damage_bytes import INTEGERS, LARGEST, damage_bytes
from conformance.fuzz.damage_text import damage_string

_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-8, 1e38, -1e38, float("inf"), float("-inf"), float("nan"), 255.0, 1e6)
_WHOLE = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_MOST = 60_000
"""Messages that are walked; mutants may grow."""


class Damager:
    """Damages one message in place. ``donor`` is a message of the same kind from another healthy file."""

    def __init__(self, rng: Random, message: Message, donor: Message | None = None) -> None:
        self.rng = rng
        self.message = message
        self.donor = donor
        self.places = list(walk(message))
        self.strings = sorted(set(_strings(self.places)))

    def damage(self) -> str:
        """One act of damage; says which field of which message, and what was done."""
        for _ in range(20):
            place = self._pick()
            field = self._field(place)
            if field is None:
                continue
            act = self._act(place, field)
            try:
                done = act(place, field)
            except (ValueError, TypeError, IndexError):  # a value that this field cannot hold
                continue
            if done:
                return f"{place.DESCRIPTOR.name}.{field.name}: {done}"
        return "nothing"

    def _pick(self) -> Any:
        """A message: each kind as often as any other, so that a thousand tensors do not hide the one model."""
        if self.rng.random() < 0.5:
            return self.rng.choice(self.places)
        kinds: dict[str, list[Any]] = {}
        for place in self.places:
            kinds.setdefault(place.DESCRIPTOR.full_name, []).append(place)
        return self.rng.choice(kinds[self.rng.choice(sorted(kinds))])

    def _field(self, place: Any) -> Any:
        """One of its fields, mostly one that is set."""
        fields = list(place.DESCRIPTOR.fields)
        held = [field for field, _ in place.ListFields() if not field.is_extension]
        if held and self.rng.random() < 0.8:
            return self.rng.choice(held)
        return self.rng.choice(fields) if fields else None

    def _act(self, place: Any, field: Any) -> Callable[[Any, Any], str]:
        if field.containing_oneof is not None and self.rng.random() < 0.3:
            return self._switch
        if _is_map(field):
            return self._map
        if field.is_repeated:
            return self._messages if field.message_type is not None else self._numbers
        return self._submessage if field.message_type is not None else self._scalar

    # single fields

    def _scalar(self, place: Any, field: Any) -> str:
        if self.rng.random() < 0.15:
            place.ClearField(field.name)
            return "cleared"
        value = self._value(field, getattr(place, field.name))
        setattr(place, field.name, value)
        return f"= {_short(value)}"

    def _submessage(self, place: Any, field: Any) -> str:
        way = self.rng.choice(("clear", "empty", "other", "other", "donor"))
        if way == "clear":
            place.ClearField(field.name)
        elif way == "empty":
            place.ClearField(field.name)
            getattr(place, field.name).SetInParent()
        else:
            other = self._alike(field.message_type, donor=way == "donor")
            if other is None:
                return ""
            getattr(place, field.name).CopyFrom(other)
        return way

    def _switch(self, place: Any, field: Any) -> str:
        """Another member of a oneof takes the place of the one that is set."""
        member = self.rng.choice(list(field.containing_oneof.fields))
        if member.message_type is None:
            value = self._value(member, getattr(place, member.name))
            setattr(place, member.name, value)
            return f"oneof {member.name} = {_short(value)}"
        kept = place.__class__()
        kept.CopyFrom(place)
        getattr(place, member.name).SetInParent()
        other = self._alike(member.message_type)
        if other is not None and self.rng.random() < 0.5:
            getattr(place, member.name).CopyFrom(other)
        return f"oneof {member.name}"

    # repeated fields and maps

    def _numbers(self, place: Any, field: Any) -> str:
        listed = getattr(place, field.name)
        way = self.rng.choice(("set", "set", "drop", "append", "clear", "double", "reverse", "cut", "many"))
        values = list(listed)
        index = self.rng.randrange(len(values)) if values else 0
        if not values and way not in ("append", "many"):
            way = "append"
        if way == "set":
            values[index] = self._value(field, values[index])
        elif way == "drop":
            del values[index]
        elif way == "append":
            values.insert(self.rng.randrange(len(values) + 1), self._value(field, values[index] if values else None))
        elif way == "clear":
            values = []
        elif way == "double":
            values = values * 2
        elif way == "reverse":
            values.reverse()
        elif way == "cut":
            values = values[: len(values) // 2]
        else:
            values += [values[index] if values else self._value(field, None)] * self.rng.choice((8, 40, 3000))
        if sum(len(v) if isinstance(v, str | bytes) else 1 for v in values) > LARGEST:
            return ""
        del listed[:]
        listed.extend(values)
        return way

    def _messages(self, place: Any, field: Any) -> str:
        listed = getattr(place, field.name)
        way = self.rng.choice(
            ("drop", "drop", "double", "swap", "clear", "add", "other", "donor", "many", "reverse", "nest")
        )
        kept = [_copy(m) for m in listed]
        index = self.rng.randrange(len(kept)) if kept else 0
        if way in ("add", "other", "donor"):
            made = None if way == "add" else self._alike(field.message_type, donor=way == "donor")
            kept.insert(index, field.message_type._concrete_class() if made is None else _copy(made))
        elif not kept:
            return ""
        elif way == "drop":
            del kept[index]
        elif way == "double":
            kept.insert(self.rng.randrange(len(kept) + 1), kept[index])
        elif way == "swap":
            other = self.rng.randrange(len(kept))
            kept[index], kept[other] = kept[other], kept[index]
        elif way == "clear":
            kept = []
        elif way == "reverse":
            kept.reverse()
        elif way == "nest":
            return self._nest(place)
        else:
            kept += [kept[index]] * self.rng.choice((10, 300))
        if sum(m.ByteSize() for m in kept) > LARGEST:
            return ""
        del listed[:]
        listed.extend(kept)
        return way

    def _map(self, place: Any, field: Any) -> str:
        held = getattr(place, field.name)
        entry = field.message_type.fields_by_name
        keys = sorted(held)
        way = self.rng.choice(("drop", "rename", "clear", "value", "value", "swap", "add"))
        if not keys or way == "add":
            key = self._value(entry["key"], keys[0] if keys else None)
            return self._put(held, key, entry["value"], None) and f"add {_short(key)}"
        key = self.rng.choice(keys)
        if way == "drop":
            del held[key]
        elif way == "clear":
            held.clear()
        elif way == "rename":
            new = self._value(entry["key"], key)
            self._put(held, new, entry["value"], held[key])
            if new != key:
                del held[key]
        elif way == "swap":
            self._put(held, key, entry["value"], held[self.rng.choice(keys)])
        else:
            other = self._alike(entry["value"].message_type, donor=self.rng.random() < 0.3)
            self._put(held, key, entry["value"], other)
        return f"{way} {_short(key)}"

    def _put(self, held: Any, key: Any, field: Any, value: Any) -> bool:
        if field.message_type is None:
            held[key] = self._value(field, value)
        elif value is None:
            held[key].Clear()
        else:
            held[key].CopyFrom(_copy(value))
        return True

    def _nest(self, place: Any) -> str:
        """The message inside itself, again and again, where its kind can hold its kind."""
        path = _way_back(place.DESCRIPTOR)
        if path is None:
            return ""
        depth = self.rng.choice((1, 2, 5, 40))
        for _ in range(depth):
            inner = _copy(place)
            target = place
            for field in path:
                target = getattr(target, field.name).add() if field.is_repeated else getattr(target, field.name)
            target.CopyFrom(inner)
            if place.ByteSize() > LARGEST // 4:
                break
        return f"nested {depth} times"

    # values

    def _value(self, field: Any, now: Any) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return self._bytes(now or b"")
            return damage_string(self.rng, now or "", self.strings)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return not now
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            named = sorted(v.number for v in field.enum_type.values)
            return self.rng.choice((*named, *named, -1, named[-1] + 1, 255, 999, (1 << 31) - 1))
        if kind in _WHOLE:
            low, high = _WHOLE[kind]
            near = now if isinstance(now, int) else 0
            return max(low, min(high, self.rng.choice((*INTEGERS, near + 1, near - 1, near * 2, -near, near // 2))))
        return self.rng.choice((*_FLOATS, (now or 0.0) * -1, (now or 0.0) * 1000))

    def _bytes(self, now: bytes) -> bytes:
        draw = self.rng.random()
        if draw < 0.3 and self.strings:
            return self.rng.choice(self.strings).encode("utf-8", "surrogatepass")
        if draw < 0.6:
            return self.rng.choice(
                (b"", now[:-1], now + b"\0", now * 2, now[: len(now) // 2], b"\xff\xfe", b"\0" * len(now))
            )
        return damage_bytes(self.rng, now)[0]

    def _alike(self, descriptor: Any, donor: bool = False) -> Any:
        """Another message of that kind from the file, or from a healthy file of the same format."""
        places = self.places if not donor or self.donor is None else list(walk(self.donor))
        alike = [p for p in places if p.DESCRIPTOR is descriptor]
        return _copy(self.rng.choice(alike)) if alike else None


def walk(message: Any) -> Iterator[Any]:
    """The message and every message in it, in a fixed order."""
    waiting, seen = [message], 0
    while waiting and seen < _MOST:
        place = waiting.pop()
        seen += 1
        yield place
        for field, value in reversed(place.ListFields()):
            if field.message_type is None:
                continue
            if _is_map(field):
                if field.message_type.fields_by_name["value"].message_type is not None:
                    waiting += [value[key] for key in sorted(value, reverse=True)]
            elif field.is_repeated:
                waiting += list(reversed(value))
            else:
                waiting.append(value)


def _strings(places: list[Any]) -> Iterator[str]:
    for place in places:
        for field, value in place.ListFields():
            if _is_map(field):
                yield from (key for key in value if isinstance(key, str))
            elif field.type == FieldDescriptor.TYPE_STRING:
                listed = list(value)[:200] if field.is_repeated else [value]
                yield from (v[:200] for v in listed if isinstance(v, str))  # what is no UTF-8 is read as bytes


def _is_map(field: Any) -> bool:
    return bool(field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry)


def _way_back(descriptor: Any) -> tuple[Any, ...] | None:
    """The shortest way of fields from a kind of message to itself."""
    ways: list[tuple[Any, ...]] = [(field,) for field in descriptor.fields if field.message_type and not _is_map(field)]
    seen = set()
    for way in ways:
        kind = way[-1].message_type
        if kind is descriptor:
            return way
        if kind.full_name not in seen and len(way) < 5:
            seen.add(kind.full_name)
            ways += [(*way, field) for field in kind.fields if field.message_type and not _is_map(field)]
    return None


def _copy(message: Any) -> Any:
    made = message.__class__()
    made.CopyFrom(message)
    return made


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 32 else text[:29] + "..."
