"""Healthy .mlpackage folders: ML Programs written operation by operation, their weights in weight.bin, their Manifest.json."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from conformance.fuzz.cases_coreml import array, picture
from conformance.fuzz.files import Case
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2

_TYPES = {
    "fp32": (MIL_pb2.FLOAT32, np.float32, 2, "floats"),
    "fp16": (MIL_pb2.FLOAT16, np.float16, 1, "bytes"),
    "int32": (MIL_pb2.INT32, np.int32, 14, "ints"),
    "bool": (MIL_pb2.BOOL, np.bool_, 0, "bools"),
    "string": (MIL_pb2.STRING, np.str_, 0, "strings"),
}


class Program:
    """One program under construction, and its weight file."""

    def __init__(self, opset: str = "CoreML7", version: int = 8) -> None:
        self.spec = Model_pb2.Model(specificationVersion=version)
        self.spec.mlProgram.version = 1
        self.function = self.spec.mlProgram.functions["main"]
        self.function.opset = opset
        self.block = self.function.block_specializations[opset]
        self.weights = b""
        self.blobs = 0
        self.count = 0

    def input(self, name: str, kind: str, *shape: int) -> str:
        """Declares an array that goes in."""
        _type(self.function.inputs.add(name=name).type, kind, shape)
        array(self.spec.description.input.add(), name, *shape, dtype=65552 if kind == "fp16" else 65568)
        return name

    def output(self, name: str, *shape: int, dtype: int = 65568) -> None:
        """Declares what comes out."""
        self.block.outputs.append(name)
        array(self.spec.description.output.add(), name, *shape, dtype=dtype)

    def const(self, value: Any, kind: str, name: str | None = None, *, blob: bool = False) -> str:
        """A constant, in the program or in the weight file."""
        self.count += 1
        name = name or f"const_{self.count}"
        values = np.asarray(value) if kind == "string" else np.asarray(value, _TYPES[kind][1])
        operation = self.block.operations.add(type="const")
        _type(operation.outputs.add(name=name).type, kind, values.shape)
        _text(operation.attributes["name"], name)
        stored = operation.attributes["val"]
        _type(stored.type, kind, values.shape)
        if blob:
            stored.blobFileValue.fileName = "@model_path/weights/weight.bin"
            stored.blobFileValue.offset = self._blob(values, _TYPES[kind][2])
        else:
            _fill(stored, values, kind)
        return name

    def op(
        self, kind: str, name: str, of: str, shape: Sequence[int], block: Any = None, /, **inputs: str | Sequence[str]
    ) -> str:
        """An operation with one output of its own name."""
        operation = (self.block if block is None else block).operations.add(type=kind)
        for key, names in inputs.items():
            for given in [names] if isinstance(names, str) else names:
                operation.inputs[key].arguments.add(name=given)
        _type(operation.outputs.add(name=name).type, of, shape)
        _text(operation.attributes["name"], name)
        return name

    def _blob(self, values: Any, code: int) -> int:
        payload = values.tobytes()
        offset = 64 + len(self.weights)
        record = struct.pack("<IIQQQ", 0xDEADBEEF, code, len(payload), offset + 64, 0).ljust(64, b"\0")
        self.weights += record + payload + b"\0" * (-len(payload) % 64)
        self.blobs += 1
        return offset

    def files(self, name: str) -> dict[str, bytes]:
        """The package."""
        data = f"{name}.mlpackage/Data/com.apple.CoreML"
        made = {f"{data}/model.mlmodel": self.spec.SerializeToString(deterministic=True)}
        items = {"A": {"author": "com.apple.CoreML", "description": "CoreML Model Specification",
                       "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}}  # fmt: skip
        if self.weights:
            made[f"{data}/weights/weight.bin"] = struct.pack("<II", self.blobs, 2).ljust(64, b"\0") + self.weights
            items["B"] = {"author": "com.apple.CoreML", "description": "CoreML Model Weights",
                          "name": "weights", "path": "com.apple.CoreML/weights"}  # fmt: skip
        manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "A"}
        return {**made, f"{name}.mlpackage/Manifest.json": json.dumps(manifest, indent=4).encode()}


def mlpackage_cases() -> list[Case]:
    """The cases, each with its weight among the mutants."""
    made = {
        "half": (_convolutions("fp16"), 3),
        "float": (_convolutions("fp32"), 3),
        "classifier": (_classifier(), 3),
        "shaping": (_shaping(), 4),
        "control": (_control(), 2),
        "compressed": (_compressed(), 2),
    }
    return [Case(name, program.files(name), f"{name}.mlpackage", weight) for name, (program, weight) in made.items()]


def _type(target: Any, kind: str, shape: Sequence[int]) -> None:
    target.tensorType.dataType = _TYPES[kind][0]
    target.tensorType.rank = len(shape)
    for length in shape:
        target.tensorType.dimensions.add().constant.size = length


def _text(target: Any, text: str) -> None:
    _type(target.type, "string", ())
    target.immediateValue.tensor.strings.values.append(text)


def _fill(target: Any, values: Any, kind: str) -> None:
    field = _TYPES[kind][3]
    if field == "bytes":
        target.immediateValue.tensor.bytes.values = values.tobytes()
    else:
        getattr(target.immediateValue.tensor, field).values.extend(values.ravel().tolist())


def _random(*shape: int) -> Any:
    return np.random.RandomState(len(shape)).randn(*shape)


def _convolutions(kind: str) -> Program:
    p = Program()
    p.input("x", "fp32", 1, 3, 8, 8)
    x = p.op("cast", "x_cast", kind, (1, 3, 8, 8), x="x", dtype=p.const(kind, "string")) if kind == "fp16" else "x"
    weight = p.const(_random(4, 3, 3, 3), kind, "w", blob=True)
    bias = p.const(_random(4), kind, "b", blob=True)
    pads, ones = p.const([1, 1, 1, 1], "int32"), p.const([1, 1], "int32")
    c = p.op(
        "conv", "c", kind, (1, 4, 8, 8), x=x, weight=weight, bias=bias, pad_type=p.const("custom", "string"), pad=pads,
        strides=ones, dilations=ones, groups=p.const(1, "int32"),
    )  # fmt: skip
    r = p.op("relu", "r", kind, (1, 4, 8, 8), x=c)
    two = p.const([2, 2], "int32")
    m = p.op(
        "max_pool", "m", kind, (1, 4, 4, 4), x=r, kernel_sizes=two, strides=two, pad_type=p.const("valid", "string"),
        pad=p.const([0, 0, 0, 0], "int32"), ceil_mode=p.const(False, "bool"),
    )  # fmt: skip
    n = p.op(
        "batch_norm", "n", kind, (1, 4, 4, 4), x=m, mean=p.const(_random(4), kind), variance=p.const([1, 2, 3, 4], kind),
        gamma=p.const(_random(4), kind), beta=p.const(_random(4), kind), epsilon=p.const(1e-4, kind),
    )  # fmt: skip
    axes, keep = p.const([2, 3], "int32"), p.const(False, "bool")
    g = p.op("reduce_mean", "g", kind, (1, 4), x=n, axes=axes, keep_dims=keep)
    y = p.op(
        "linear", "y_half" if kind == "fp16" else "y", kind, (1, 5), x=g, weight=p.const(_random(5, 4), kind, "fc", blob=True),
        bias=p.const(_random(5), kind),
    )  # fmt: skip
    if kind == "fp16":
        p.op("cast", "y", "fp32", (1, 5), x=y, dtype=p.const("fp32", "string"))
    p.output("y", 1, 5)
    return p


def _classifier() -> Program:
    p = Program()
    _type(p.function.inputs.add(name="picture").type, "fp32", (1, 3, 8, 8))
    picture(p.spec.description.input.add(), "picture", 8, 8)
    f = p.op("reshape", "f", "fp32", (1, 192), x="picture", shape=p.const([1, 192], "int32"))
    scale = p.const(1 / 255, "fp32")
    s = p.op("mul", "scaled", "fp32", (1, 192), x=f, y=scale)
    i = p.op(
        "linear",
        "i",
        "fp32",
        (1, 3),
        x=s,
        weight=p.const(_random(3, 192), "fp32", "w", blob=True),
        bias=p.const(_random(3), "fp32"),
    )
    probs = p.op("softmax", "scores", "fp32", (1, 3), x=i, axis=p.const(-1, "int32"))
    operation = p.block.operations.add(type="classify")
    operation.inputs["probabilities"].arguments.add(name=probs)
    operation.inputs["classes"].arguments.add(name=p.const(["ant", "bee", "cat"], "string", "classes"))
    _type(operation.outputs.add(name="label").type, "string", ())
    kind = operation.outputs.add(name="label_probs").type.dictionaryType
    _type(kind.keyType, "string", ())
    _type(kind.valueType, "fp32", ())
    classify = p.block.operations[-2]
    assert classify.type == "classify"
    kept = [o for o in p.block.operations if o.type != "classify"] + [classify]
    copies = [type(o).FromString(o.SerializeToString()) for o in kept]
    del p.block.operations[:]
    p.block.operations.extend(copies)
    p.block.outputs.extend(["label", "label_probs"])
    p.spec.description.output.add(name="label").type.stringType.SetInParent()
    p.spec.description.output.add(name="label_probs").type.dictionaryType.stringKeyType.SetInParent()
    p.spec.description.predictedFeatureName, p.spec.description.predictedProbabilitiesName = "label", "label_probs"
    return p


def _shaping() -> Program:
    p = Program()
    p.input("x", "fp32", 1, 4, 6)
    t = p.op("transpose", "t", "fp32", (1, 6, 4), x="x", perm=p.const([0, 2, 1], "int32"))
    no = p.const(False, "bool")
    m = p.op("matmul", "m", "fp32", (1, 4, 4), x="x", y=t, transpose_x=no, transpose_y=no)
    s = p.op("softmax", "s", "fp32", (1, 4, 4), x=m, axis=p.const(-1, "int32"))
    c = p.op(
        "slice_by_index", "c", "fp32", (1, 2, 4), x=s, begin=p.const([0, 0, 0], "int32"), end=p.const([1, 2, 4], "int32"),
        stride=p.const([1, 1, 1], "int32"), begin_mask=p.const([True, False, False], "bool"),
        end_mask=p.const([True, False, True], "bool"), squeeze_mask=p.const([False] * 3, "bool"),
    )  # fmt: skip
    axis = p.const([0], "int32", "axis")
    e = p.op("expand_dims", "e", "fp32", (1, 1, 2, 4), x=c, axes=axis)
    q = p.op("squeeze", "q", "fp32", (1, 2, 4), x=e, axes=axis)
    d = p.op(
        "pad", "d", "fp32", (1, 2, 6), x=q, pad=p.const([1, 1], "int32"), mode=p.const("constant", "string"),
        constant_val=p.const(0.5, "fp32"),
    )  # fmt: skip
    n = p.op(
        "layer_norm", "n", "fp32", (1, 2, 6), x=d, axes=p.const([-1], "int32"), gamma=p.const(_random(6), "fp32"),
        beta=p.const(_random(6), "fp32"), epsilon=p.const(1e-5, "fp32"),
    )  # fmt: skip
    k = p.op("concat", "k", "fp32", (1, 4, 6), values=[n, d], axis=p.const(1, "int32"), interleave=no)
    h = p.op("shape", "h", "int32", (3,), x=k)
    p.op("reshape", "z", "fp32", (1, 4, 6), x=k, shape=h)
    g = p.op(
        "gather", "g", "fp32", (1, 2, 6), x=k, indices=p.const([0, 3], "int32"), axis=p.const(1, "int32"),
        batch_dims=p.const(0, "int32"), validate_indices=no,
    )  # fmt: skip
    w = p.op("select", "w", "fp32", (1, 2, 6), cond=p.op("greater", "b", "bool", (1, 2, 6), x=g, y=d), a=g, b=d)
    p.op("tile", "y", "fp32", (2, 2, 6), x=w, reps=p.const([2, 1, 1], "int32"))
    p.output("y", 2, 2, 6)
    p.output("z", 1, 4, 6)
    return p


def _control() -> Program:
    p = Program()
    p.input("x", "fp32", 2, 3)
    axes, keep, zero = p.const([0, 1], "int32"), p.const(False, "bool"), p.const(0.0, "fp32")
    s = p.op("reduce_sum", "s", "fp32", (), x="x", axes=axes, keep_dims=keep)
    c = p.op("greater", "c", "bool", (), x=s, y=zero)
    two = p.const(2.0, "fp32", "two")
    operation = p.block.operations.add(type="cond")
    operation.inputs["pred"].arguments.add(name=c)
    for name, kind in (("then", "add"), ("else", "mul")):
        block = operation.blocks.add()
        p.op(kind, f"y_{name}", "fp32", (2, 3), block, x="x", y=two)
        block.outputs.append(f"y_{name}")
    _type(operation.outputs.add(name="y").type, "fp32", (2, 3))
    _text(operation.attributes["name"], "cond")
    p.output("y", 2, 3)
    return p


def _compressed() -> Program:
    """Weights as a lookup table and as quantised integers, which are operations of constants."""
    p = Program("CoreML6", 7)
    p.input("x", "fp32", 1, 8)
    table = p.block.operations.add(type="constexpr_lut_to_dense")
    _attribute(table, "indices", MIL_pb2.UINT8, (8,), bytes(range(8)))
    _attribute(table, "lut", MIL_pb2.FLOAT32, (4,), [-1.0, -0.5, 0.5, 1.0])
    _attribute(table, "shape", MIL_pb2.UINT32, (2,), np.array([4, 8], np.uint32).tobytes())
    _text(table.attributes["name"], "w")
    _type(table.outputs.add(name="w").type, "fp32", (4, 8))
    i = p.op("linear", "i", "fp32", (1, 4), x="x", weight="w", bias=p.const(_random(4), "fp32"))
    affine = p.block.operations.add(type="constexpr_affine_dequantize")
    _attribute(affine, "quantized_data", MIL_pb2.INT8, (2, 4), bytes(range(8)))
    _attribute(affine, "zero_point", MIL_pb2.INT8, (), b"\0")
    _attribute(affine, "scale", MIL_pb2.FLOAT32, (), [0.1])
    _attribute(affine, "axis", MIL_pb2.INT32, (), [0])
    _text(affine.attributes["name"], "v")
    _type(affine.outputs.add(name="v").type, "fp32", (2, 4))
    p.op("linear", "y", "fp32", (1, 2), x=i, weight="v", bias=p.const(_random(2), "fp32"))
    p.output("y", 1, 2)
    return p


def _attribute(operation: Any, name: str, code: int, shape: Sequence[int], values: bytes | list[Any]) -> None:
    """A constant that an operation of constants carries itself."""
    value = operation.attributes[name]
    value.type.tensorType.dataType, value.type.tensorType.rank = code, len(shape)
    for length in shape:
        value.type.tensorType.dimensions.add().constant.size = length
    tensor = value.immediateValue.tensor
    if isinstance(values, bytes):
        tensor.bytes.values = values
    elif code == MIL_pb2.FLOAT32:
        tensor.floats.values.extend(values)
    else:
        tensor.ints.values.extend(values)
