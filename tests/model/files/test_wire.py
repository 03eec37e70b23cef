"""reserialise: what was not changed keeps its bytes, for every real file and every way in which a writer may spell a field."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError

from coreproof.model.coreml.model import package_spec
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2, NeuralNetwork_pb2
from coreproof.model.files.wire import records, reserialise, rewrite


def spec_files(folder: Path) -> list[Path]:
    legacy = sorted(folder.glob("legacy/*/*.mlmodel"))
    packages = [package_spec(p) for p in sorted(folder.glob("coreml/*.mlpackage"))]
    return [*sorted(folder.glob("coreml/*.mlmodel")), *packages, *legacy]


@pytest.mark.thorough
def test_unchanged_files_are_the_same_bytes(shared_data: Path) -> None:
    """Field by field too, and not only because the whole message is found equal."""
    for path in spec_files(shared_data):
        original = path.read_bytes()
        spec = Model_pb2.Model.FromString(original)
        assert reserialise(original, spec) == original, path
        assert rewrite(original, spec) == original, path
    for path in sorted(shared_data.glob("onnx/*.onnx")):
        original = path.read_bytes()
        model = onnx.ModelProto.FromString(original)
        assert reserialise(original, model) == original, path
        assert rewrite(original, model) == original, path


def parts(data: bytes, *numbers: int) -> list[bytes]:
    """The contents of the fields on the path ``numbers``, as they are spelled."""
    found = [data]
    for number in numbers:
        found = [r.payload for message in found for r in records(message) if r.number == number]
    return found


def test_one_edit_leaves_the_bytes_of_all_other_layers(shared_data: Path) -> None:
    checked = 0
    for path in spec_files(shared_data):
        original = path.read_bytes()
        spec = Model_pb2.Model.FromString(original)
        kind = spec.WhichOneof("Type")
        if not kind.startswith("neuralNetwork"):
            continue
        layers = getattr(spec, kind).layers
        place = len(layers) // 2
        layers[place].name += "_edited"
        number = spec.DESCRIPTOR.fields_by_name[kind].number
        edited = reserialise(original, spec)
        before, after = parts(original, number, 1), parts(edited, number, 1)
        assert Model_pb2.Model.FromString(edited) == spec
        assert [b for i, b in enumerate(before) if i != place] == [a for i, a in enumerate(after) if i != place], path
        assert before[place] != after[place]
        checked += 1
    assert checked > 20


def test_one_edit_of_an_onnx_file_leaves_the_bytes_of_its_nodes_and_weights(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("onnx/*.onnx")):
        original = path.read_bytes()
        model = onnx.ModelProto.FromString(original)
        del model.graph.node[0]
        model.graph.node[-1].name = "renamed"
        edited = reserialise(original, model)
        before, after = parts(original, 7, 1), parts(edited, 7, 1)
        assert after[:-1] == before[1:-1], path
        assert after[-1] != before[-1]
        assert parts(original, 7, 5) == parts(edited, 7, 5), path
        assert onnx.ModelProto.FromString(edited) == model


def test_one_edit_of_a_program_leaves_its_other_operations(shared_data: Path) -> None:
    for package in sorted(shared_data.glob("coreml/*.mlpackage")):
        original = package_spec(package).read_bytes()
        spec = Model_pb2.Model.FromString(original)
        if spec.WhichOneof("Type") != "mlProgram":
            continue
        function = next(iter(spec.mlProgram.functions.values()))
        block = function.block_specializations[function.opset]
        place = len(block.operations) // 2
        block.operations[place].outputs[0].name = "renamed"
        edited = reserialise(original, spec)
        path = (502, 2, 2, 3, 2, 3)  # mlProgram, functions, value, block_specializations, value, operations
        before, after = parts(original, *path), parts(edited, *path)
        assert len(before) == len(block.operations)
        assert [b for i, b in enumerate(before) if i != place] == [a for i, a in enumerate(after) if i != place]
        assert Model_pb2.Model.FromString(edited) == spec


# spellings that a parser accepts and no serialiser of ours writes


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def field(number: int, wire: int, content: bytes) -> bytes:
    return varint(number << 3 | wire) + content


def text(number: int, content: bytes) -> bytes:
    return field(number, 2, varint(len(content)) + content)


POOLING = text(10, b"\x03\x03")  # kernelSize, packed
ODD = (
    text(3, b"out")
    + text(1, b"old name")
    + text(999, b"from the future")
    + field(52, 0, b"\x85\x00")  # an unknown field of one byte more than it needs
    + text(120, field(1, 0, b"\x00") + POOLING)  # pooling: its type MAX, zero, written out
    + text(2, b"in")
)
UNPACKED = text(120, field(10, 0, b"\x03") + field(10, 0, b"\x05"))


def layer(spelled: bytes) -> Any:
    return NeuralNetwork_pb2.NeuralNetworkLayer.FromString(spelled)


def test_order_unknown_fields_and_redundant_defaults_stay() -> None:
    edited = layer(ODD)
    edited.name = "new"
    assert reserialise(ODD, edited) == ODD.replace(text(1, b"old name"), text(1, b"new"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.input.append("more"), ODD + text(2, b"more")),
        (lambda m: m.ClearField("name"), ODD.replace(text(1, b"old name"), b"")),
        (lambda m: m.input.__delitem__(0), ODD.replace(text(2, b"in"), b"")),
        (
            lambda m: m.pooling.kernelSize.append(300),
            ODD.replace(
                text(120, field(1, 0, b"\x00") + POOLING),
                text(120, field(1, 0, b"\x00") + text(10, b"\x03\x03\xac\x02")),
            ),
        ),
    ],
)
def test_each_change_is_made_in_its_place(change: Callable[[Any], object], expected: bytes) -> None:
    edited = layer(ODD)
    change(edited)
    assert reserialise(ODD, edited) == expected


def test_numbers_one_by_one_stay_one_by_one() -> None:
    edited = layer(UNPACKED)
    assert list(edited.pooling.kernelSize) == [3, 5]
    edited.pooling.kernelSize[1] = 300
    assert reserialise(UNPACKED, edited) == text(120, field(10, 0, b"\x03") + field(10, 0, b"\xac\x02"))


def test_packed_numbers_stay_packed_where_the_schema_says_otherwise() -> None:
    spelled = text(1, b"\x02\x03")  # TensorProto.dims is not packed by its definition
    tensor = onnx.TensorProto.FromString(spelled)
    tensor.dims.append(4)
    assert reserialise(spelled, tensor) == text(1, b"\x02\x03\x04")


def test_another_member_of_a_oneof_takes_the_place_of_the_first() -> None:
    edited = layer(ODD)
    edited.softmax.SetInParent()
    spelled = reserialise(ODD, edited)
    assert layer(spelled).WhichOneof("layer") == "softmax"
    assert b"from the future" in spelled
    assert parts(spelled, 120) == []


def test_a_message_in_two_pieces_is_written_as_one_when_it_changes() -> None:
    spelled = text(120, POOLING) + text(1, b"name") + text(120, field(50, 0, b"\x01"))
    edited = layer(spelled)
    assert reserialise(spelled, edited) == spelled
    edited.pooling.globalPooling = True
    assert layer(reserialise(spelled, edited)) == edited
    assert len(parts(reserialise(spelled, edited), 120)) == 1


def test_map_entries_keep_their_order_and_their_spelling() -> None:
    def entry(key: bytes, value: bytes) -> bytes:
        return text(2, text(2, value) + text(1, key))  # value first, which no serialiser of ours writes

    function = text(1, text(1, b"x"))
    spelled = entry(b"z", function) + field(1, 0, b"\x01") + entry(b"a", function) + entry(b"m", function)
    program = MIL_pb2.Program.FromString(spelled)
    assert reserialise(spelled, program) == spelled
    del program.functions["a"]
    program.functions["m"].opset = "CoreML7"
    program.functions["new"].opset = "CoreML8"
    changed = entry(b"m", function + text(2, b"CoreML7"))
    added = text(2, text(1, b"new") + text(2, text(2, b"CoreML8")))
    assert reserialise(spelled, program) == entry(b"z", function) + field(1, 0, b"\x01") + changed + added


def network(*names: str) -> bytes:
    """Layers whose names stand behind their inputs, so that serialising them anew would show."""
    return b"".join(text(1, text(2, b"i") + text(1, n.encode())) for n in names)


@pytest.mark.parametrize(
    "names",
    [
        ("a", "b", "c"), ("b", "c", "a"), ("c", "b", "a"), ("a", "c"), ("b",), (), ("c", "c", "a", "b", "a"),
    ],
)  # fmt: skip
def test_layers_that_move_keep_their_bytes(names: tuple[str, ...]) -> None:
    original = network("a", "b", "c")
    edited = NeuralNetwork_pb2.NeuralNetwork.FromString(network(*names))
    assert reserialise(original, edited) == network(*names)


def test_new_layers_come_where_they_belong() -> None:
    original = network("a", "b")
    edited = NeuralNetwork_pb2.NeuralNetwork.FromString(original)
    for place, name in ((0, "first"), (2, "between"), (4, "last")):
        edited.layers.insert(place, NeuralNetwork_pb2.NeuralNetworkLayer(name=name))
    new = {name: text(1, text(1, name.encode())) for name in ("first", "between", "last")}
    expected = new["first"] + network("a") + new["between"] + network("b") + new["last"]
    assert reserialise(original, edited) == expected


def test_minus_zero_and_nan_are_values_like_any_other() -> None:
    weights = NeuralNetwork_pb2.WeightParams(floatValue=[0.0, float("nan")])
    original = weights.SerializeToString()
    assert reserialise(original, weights) == original
    weights.floatValue[0] = -0.0
    assert reserialise(original, weights) == weights.SerializeToString() != original


# seeded random edits


def mutate(message: Any, rng: random.Random) -> None:
    """One random change somewhere below ``message``: a field cleared, a number or text changed, an item moved or repeated."""
    fields = [f for f, _ in message.ListFields()]
    field = rng.choice(fields) if fields else None
    if field is None:
        return
    value = getattr(message, field.name)
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if rng.random() < 0.15:
        message.ClearField(field.name)
    elif is_map:
        key = rng.choice(sorted(value))
        if field.message_type.fields_by_name["value"].message_type is not None:
            mutate(value[key], rng)
        else:
            del value[key]
    elif field.is_repeated:
        place = rng.randrange(len(value))
        if field.message_type is not None and rng.random() < 0.7:
            mutate(value[place], rng)
        elif rng.random() < 0.5:
            items = [value.pop(place)]
            at = rng.randrange(len(value) + 1)
            rest = list(value)
            message.ClearField(field.name)
            getattr(message, field.name).extend([*rest[:at], *items, *items, *rest[at:]])
        else:
            del value[place]
    elif field.message_type is not None:
        mutate(value, rng)
    elif isinstance(value, bool):
        setattr(message, field.name, not value)
    elif isinstance(value, str | bytes):
        setattr(message, field.name, value[: len(value) // 2])
    elif field.enum_type is not None:
        setattr(message, field.name, rng.choice([v.number for v in field.enum_type.values]))
    else:
        setattr(message, field.name, value // 2 if isinstance(value, int) else -value)


def test_random_edits_are_spelled_right(shared_data: Path) -> None:
    """What was spelled parses to what was asked for, without the plain spelling having to step in."""
    rng = random.Random(11)
    small = [p for p in spec_files(shared_data) if p.stat().st_size < 300_000]
    models = [p for p in sorted(shared_data.glob("onnx/*.onnx")) if p.stat().st_size < 600_000]
    for path in [*small, *models] * 3:
        original = path.read_bytes()
        edited: Any = onnx.ModelProto() if path.suffix == ".onnx" else Model_pb2.Model()
        edited.ParseFromString(original)
        for _ in range(rng.randrange(1, 6)):
            mutate(edited, rng)
        check = type(edited)()
        check.ParseFromString(rewrite(original, edited))
        assert check.SerializeToString(deterministic=True) == edited.SerializeToString(deterministic=True), path


def test_whatever_lies_in_the_file_the_message_is_written(tmp_path: Path) -> None:
    edited = layer(ODD)
    for garbage in (b"", b"\xff\xff", ODD[:-1], bytes(range(256)), b"no model at all"):
        assert layer(reserialise(garbage, edited)) == edited


def test_groups_nested_deeper_than_any_stack_are_read_and_cut_ones_refused() -> None:
    nested = b"\x5b" * 20_000 + b"\x5c" * 20_000
    (record,) = records(nested)
    assert bytes(record.data) == nested
    with pytest.raises(DecodeError, match="cut short"):
        list(records(nested[:-1]))
