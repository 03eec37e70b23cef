"""What a Core ML file claims is held against what it holds when it is loaded, and nothing in a package leads out of it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import CoreproofError, UnreadableModelError, UnsafeModelError
from coreproof.model.coreml.compressed import sparse_to_dense
from coreproof.model.coreml.features import read_labels, read_signature
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.coreml.weight_params import WeightsError, read_weights, unpack
from coreproof.model.layer_weights import layer_weights
from tests.build import layer, network

# packages


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A program of one constant of 4 float32 numbers in a weight file, and one of 2 that is written where it is used."""
    spec = Model_pb2.Model(specificationVersion=7)
    spec.description.output.add(name="y").type.multiArrayType.dataType = 65568
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML6"
    block = function.block_specializations["CoreML6"]
    block.outputs.append("y")
    constant = block.operations.add(type="const")
    typed(constant.outputs.add(name="w").type, 4)
    typed(constant.attributes["val"].type, 4)
    constant.attributes["val"].blobFileValue.fileName = "@model_path/weights/weight.bin"
    constant.attributes["val"].blobFileValue.offset = 64
    tile = block.operations.add(type="tile")
    typed(tile.outputs.add(name="y").type, 8)
    tile.inputs["x"].arguments.add(name="w")
    repeats = tile.inputs["reps"].arguments.add().value
    typed(repeats.type, 1, MIL_pb2.INT32)
    repeats.immediateValue.tensor.ints.values.append(2)
    return stored(tmp_path / "net.mlpackage", spec, weight_bin())


def typed(value_type: Any, length: int, dtype: int = MIL_pb2.FLOAT32) -> None:
    value_type.tensorType.dataType = dtype
    value_type.tensorType.rank = 1
    value_type.tensorType.dimensions.add().constant.size = length


def weight_bin(dtype: int = 2, size: int = 16, start: int = 128, sentinel: int = 0xDEADBEEF) -> bytes:
    header = struct.pack("<II", 1, 2).ljust(64, b"\0")
    record = struct.pack("<IIQQQ", sentinel, dtype, size, start, 0).ljust(64, b"\0")
    return header + record + np.arange(4, dtype=np.float32).tobytes()


def stored(folder: Path, spec: Any, weights: bytes) -> Path:
    data = folder / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(spec.SerializeToString())
    (data / "weights" / "weight.bin").write_bytes(weights)
    items = {"A": {"path": "com.apple.CoreML/model.mlmodel"}, "B": {"path": "com.apple.CoreML/weights"}}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "A"}
    (folder / "Manifest.json").write_text(json.dumps(manifest))
    return folder


def weights_of(package: Path) -> Path:
    return package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def changed(package: Path, change: Callable[[Any], None]) -> None:
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = Model_pb2.Model.FromString(file.read_bytes())
    change(spec)
    file.write_bytes(spec.SerializeToString())


def operations(spec: Any) -> Any:
    return spec.mlProgram.functions["main"].block_specializations["CoreML6"].operations


def test_the_package_of_these_tests_loads_and_runs(package: Path) -> None:
    with cp.session(package) as running:
        np.testing.assert_array_equal(running.run({})["y"], [0, 1, 2, 3, 0, 1, 2, 3])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (weight_bin(dtype=1), "4 elements of float32.*8 of float16"),
        (weight_bin(size=12), "4 elements of float32.*3 of float32"),
        (weight_bin(size=2**63), "the file ends at byte 144"),
        (weight_bin(start=2**64 - 1), "the file ends at byte 144"),
        (weight_bin(sentinel=0), "a blob record at byte 64"),
        (weight_bin(dtype=999), "a known blob dtype.*999"),
        (weight_bin(start=64), "one at byte 64 inside the one at byte 64"),
    ],
)
def test_each_blob_is_the_elements_that_its_type_says(package: Path, weights: bytes, words: str) -> None:
    weights_of(package).write_bytes(weights)
    with pytest.raises(UnreadableModelError, match=rf"(?s){words}"):
        cp.load(package)


def test_blobs_that_are_bound_as_arguments_are_checked_too(package: Path) -> None:
    def bind(spec: Any) -> None:
        argument = operations(spec)[1].inputs["reps"].arguments[0].value
        argument.blobFileValue.fileName = "@model_path/weights/weight.bin"
        argument.blobFileValue.offset = 64

    changed(package, bind)
    with pytest.raises(UnreadableModelError, match=r"'y' \(tile\): reps lies in .*expected 1 elements of int32"):
        cp.load(package)


def test_blobs_of_nested_blocks_and_other_functions_are_checked_too(package: Path) -> None:
    def hide(spec: Any) -> None:
        nested = operations(spec)[1].blocks.add().operations.add(type="const")
        nested.CopyFrom(operations(spec)[0])
        nested.attributes["val"].blobFileValue.offset = 4096
        other = spec.mlProgram.functions["other"]
        other.CopyFrom(spec.mlProgram.functions["main"])
        other.block_specializations["CoreML6"].operations[0].attributes["val"].blobFileValue.offset = 8192

    changed(package, hide)
    with pytest.raises(
        UnreadableModelError, match=r"(?s)64 bytes from byte (4096|8192).*64 bytes from byte (4096|8192)"
    ):
        cp.load(package)


@pytest.mark.parametrize("name", ["/etc/hostname", "..", "../secret", "C:\\secret", "a\0b", "", "weights\\..\\..\\x"])
def test_weights_of_another_place_are_refused(package: Path, name: str) -> None:
    def point(spec: Any) -> None:
        operations(spec)[0].attributes["val"].blobFileValue.fileName = f"@model_path/{name}"

    changed(package, point)
    with pytest.raises(UnsafeModelError, match="weight file: this name is not followed"):
        cp.load(package)


@pytest.mark.parametrize("item", ["A", "B"])
@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "", "com.apple.CoreML/../../../x"])
def test_every_item_of_a_manifest_stays_inside(package: Path, item: str, name: str) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][item]["path"] = name
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnsafeModelError, match=f"item '{item}' of the package: this name is not followed"):
        cp.load(package)


@pytest.mark.parametrize(
    "part", ["Manifest.json", "Data", "Data/com.apple.CoreML", "Data/com.apple.CoreML/model.mlmodel",
             "Data/com.apple.CoreML/weights", "Data/com.apple.CoreML/weights/weight.bin"]
)  # fmt: skip
def test_a_link_to_elsewhere_is_refused_wherever_it_stands(package: Path, part: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(package / part, elsewhere)
    (package / part).symlink_to(elsewhere)
    with pytest.raises(UnsafeModelError, match="a link to another folder") as refused:
        cp.load(package)
    assert f"cp -RL {package}" in str(refused.value)


def test_a_package_of_a_download_cache_names_the_copy_that_opens(package: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(p for p in package.rglob("*") if p.is_file())):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    with pytest.raises(UnsafeModelError, match="cp -RL"):
        cp.load(package)
    shutil.copytree(package, tmp_path / "copy.mlpackage", symlinks=False)  # as cp -RL does
    assert cp.load(tmp_path / "copy.mlpackage").graph.nodes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(
    "part", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"]
)
def test_a_pipe_in_a_package_is_refused_and_not_waited_for(package: Path, part: str) -> None:
    (package / part).unlink()
    os.mkfifo(package / part)
    with pytest.raises(UnreadableModelError, match="a pipe"):
        cp.load(package)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_called_mlmodel_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.mlmodel")
    with pytest.raises(UnreadableModelError, match="a pipe"):
        cp.load(tmp_path / "net.mlmodel")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"rootModelIdentifier": ' + "9" * 5000 + "}", "digits"),
        ("[]", "the file: expected a table, found a list"),
        ('{"itemInfoEntries": [], "rootModelIdentifier": "A"}', "itemInfoEntries: expected a table, found a list"),
        ('{"itemInfoEntries": {"A": {"path": 3}}, "rootModelIdentifier": "A"}', r"A\.path: expected a text"),
        ('{"itemInfoEntries": {"A": {}}, "rootModelIdentifier": "A"}', r"A\.path is missing"),
        ('{"itemInfoEntries": {}, "rootModelIdentifier": ["A"]}', "rootModelIdentifier: expected a text"),
        ('{"itemInfoEntries": {}, "rootModelIdentifier": "A"}', "which is no item"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
    ],
)
def test_a_damaged_manifest_is_said_by_entry(package: Path, manifest: str | bytes, words: str) -> None:
    (package / "Manifest.json").write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    with pytest.raises(UnreadableModelError, match=rf"(?s)Manifest\.json.*{words}"):
        cp.load(package)


# programs


def wrong(change: Callable[[Any], None], words: str) -> Any:
    return pytest.param(change, words, id=words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        wrong(lambda s: s.mlProgram.functions["main"].ClearField("opset"), "no block for its opset ''"),
        wrong(lambda s: s.mlProgram.ClearField("functions"), "the program has no functions"),
        wrong(lambda s: operations(s)[0].ClearField("attributes"), "holds no value, or gives it no name"),
        wrong(lambda s: operations(s)[0].ClearField("outputs"), "holds no value, or gives it no name"),
        wrong(lambda s: operations(s)[0].attributes["val"].ClearField("blobFileValue"), "val holds no value"),
        wrong(lambda s: operations(s)[1].inputs["x"].ClearField("arguments"), "x is bound to nothing"),
        wrong(lambda s: operations(s)[1].inputs["x"].arguments[0].ClearField("name"), "x is bound to nothing"),
        wrong(lambda s: operations(s)[1].ClearField("type"), r"operation 'y' \(of no type\) has no type"),
        wrong(lambda s: reps(s).type.ClearField("tensorType"), "reps is of no tensor type"),
        wrong(lambda s: setattr(reps(s).type.tensorType, "dataType", 999), r"an unknown type \(999\)"),
        wrong(lambda s: reps(s).type.tensorType.dimensions[0].unknown.SetInParent(), "reps does not say its shape"),
        wrong(
            lambda s: setattr(reps(s).type.tensorType.dimensions[0].constant, "size", 2**40),
            r"reps is int32\[1099511627776\], and has 1 elements",
        ),
        wrong(lambda s: reps(s).immediateValue.tensor.strings.values.append("2"), "and holds strings"),
        wrong(
            lambda s: setattr(reps(s).immediateValue.tensor.bytes, "values", b"\1\2\3"), r"int32\[1\], and has 3 bytes"
        ),
        wrong(lambda s: s.description.output[0].ClearField("name"), "output 0 has no name"),
        wrong(lambda s: s.description.output.add().CopyFrom(s.description.output[0]), "two features are called 'y'"),
        wrong(
            lambda s: setattr(s.description.output[0].type.imageType, "width", -3), r"a picture of -3x0 pixels"
        ),
        wrong(lambda s: s.description.functions.add(name="a"), "the default function '' is not described"),
    ],
)  # fmt: skip
def test_a_program_without_sense_is_refused_by_operation(
    package: Path, change: Callable[[Any], None], words: str
) -> None:
    changed(package, change)
    with pytest.raises(UnreadableModelError, match=words):
        cp.load(package)


def reps(spec: Any) -> Any:
    return operations(spec)[1].inputs["reps"].arguments[0].value


def test_all_problems_are_named_at_once(package: Path) -> None:
    def spoil(spec: Any) -> None:
        reps(spec).type.tensorType.dataType = 999
        operations(spec)[1].inputs["x"].arguments[0].ClearField("name")
        spec.description.output[0].ClearField("name")

    changed(package, spoil)
    with pytest.raises(
        UnreadableModelError, match=r"(?s)output 0 .*(x is bound.*unknown type|unknown type.*x is bound)"
    ):
        cp.load(package)


# networks and pipelines


def test_the_weights_of_a_network_are_held_against_its_fields() -> None:
    model = network(
        [
            layer("innerProduct", "x", "a", inputChannels=2**40, outputChannels=2**40, weights=np.ones(6)),
            layer("bias", "a", "y", shape=[5], bias=np.ones(3)),
        ],
        {"x": (3,)},
        {"y": None},
    )
    with pytest.raises(
        UnreadableModelError, match=r"(?s)'the innerProduct'.*weights need .* and have 6.*'the bias'.*have 3"
    ):
        cp.load(model.spec)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
def test_packed_weights_are_unpacked_most_significant_bit_first(bits: int) -> None:
    numbers = np.random.default_rng(bits).integers(0, 2**bits, 37)
    text = "".join(f"{n:0{bits}b}" for n in numbers)
    packed = np.packbits(np.array([int(c) for c in text], np.uint8))
    np.testing.assert_array_equal(unpack(packed, bits, 37), numbers)


def test_packed_weights_that_are_too_short_are_refused_at_load() -> None:
    message = layer("innerProduct", "x", "y", inputChannels=3, outputChannels=2)
    message.innerProduct.weights.rawValue = b"\1"
    message.innerProduct.weights.quantization.numberOfBits = 4
    model = network([message], {"x": (3,)}, {"y": None})
    with pytest.raises(UnreadableModelError, match="weights need 3 bytes"):
        cp.load(model.spec)


def test_weights_that_are_not_there_are_said_in_words() -> None:
    with pytest.raises(WeightsError, match="weights are missing"):
        read_weights(None, (2, 3))


def test_a_stage_of_no_type_is_refused() -> None:
    spec = Model_pb2.Model(specificationVersion=4)
    spec.pipeline.models.add(specificationVersion=4)
    with pytest.raises(CoreproofError, match=r"stage 0: .* of no type"):
        cp.load(spec)


# classifiers


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.inputs["classes"].ClearField("arguments"),
        lambda o: o.inputs.clear(),
        lambda o: setattr(o.inputs["classes"].arguments[0], "name", "nothing makes this"),
        lambda o: setattr(o.inputs["classes"].arguments.add(), "name", "w"),
    ],
)
def test_labels_that_are_bound_to_nothing_are_no_labels(package: Path, change: Callable[[Any], None]) -> None:
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = Model_pb2.Model.FromString(file.read_bytes())
    operation = operations(spec).add(type="classify")
    operation.inputs["classes"].arguments.add(name="classes")
    change(operation)
    assert read_labels(spec) is None


def test_a_function_that_is_not_described_is_said() -> None:
    spec = Model_pb2.Model(specificationVersion=9)
    spec.description.functions.add(name="one")
    spec.mlProgram.SetInParent()
    with pytest.raises(UnreadableModelError, match="no function 'two'"):
        read_signature(spec, "two")


# compressed weights


def compressed(package: Path, **inputs: str) -> Any:
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = Model_pb2.Model.FromString(file.read_bytes())
    operation = operations(spec).add(type="constexpr_blockwise_shift_scale")
    typed(operation.outputs.add(name="dense").type, 4)
    for key, name in inputs.items():
        operation.inputs[key].arguments.add(name=name)
    operations(spec)[1].inputs["x"].arguments[0].name = "dense"
    block = list(operations(spec))
    del operations(spec)[:]
    operations(spec).extend([block[0], block[2], block[1]])
    file.write_bytes(spec.SerializeToString())
    return cp.load(package)


def test_a_weight_that_is_made_from_itself_is_told(package: Path) -> None:
    model = compressed(package, data="dense", scale="w")
    with pytest.raises(UnreadableModelError, match=r"'dense' \(constexpr_blockwise_shift_scale\)"):
        layer_weights(model, "y")


@pytest.mark.parametrize(
    "inputs", [{"data": "w"}, {"data": "w", "scale": "nothing"}, {"data": "w", "offset": "w", "axis": "w"}]
)
def test_a_compressed_weight_without_its_parts_is_told(package: Path, inputs: dict[str, str]) -> None:
    with pytest.raises(UnreadableModelError, match="compressed weight does not hold together"):
        layer_weights(compressed(package, **inputs), "y")


def test_a_mask_of_fewer_bits_than_its_shape_says_is_refused() -> None:
    with pytest.raises(ValueError, match="a mask of 8 bits"):
        sparse_to_dense(np.ones(3), np.zeros(1, np.uint8), np.array([2**20, 2**20]))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda array: array.shapeRange.sizeRanges.add(lowerBound=1, upperBound=4),
            "has 3 lengths and ranges for 1 of them",
        ),
        (
            lambda array: [array.shapeRange.sizeRanges.add(lowerBound=5, upperBound=n) for n in (9, 2, -1)],
            "has a length from 5 to 2",
        ),
        (lambda array: array.enumeratedShapes.shapes.add(shape=[3]), "has 3 lengths, and 1 in one of its shapes"),
    ],
)
def test_shapes_that_an_input_may_have_fit_its_rank(damage: Callable[[Any], Any], told: str, tmp_path: Path) -> None:
    spec = network([layer("activation", "x", "y", ReLU={})], {"x": [1, 2, 3]}, {"y": None}).spec
    array = spec.description.input[0].type.multiArrayType
    array.shape[:] = [1, 2, 3]
    damage(array)
    path = tmp_path / "net.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(UnreadableModelError, match=told):
        cp.load(path)
