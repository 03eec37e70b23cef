"""Model files opened for planting faults, on the bare protobufs: nothing is shared with the editing that is judged."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from conformance.mutation_onnx import Onnx

Array = np.ndarray[Any, Any]


class Plantable(Protocol):
    """A file's layers in one vocabulary, the values of ``KINDS`` below."""

    def layers(self) -> list[tuple[str, str]]:
        """(name, kind) of each layer whose kind is known."""

    def weight(self, layer: str, role: str) -> Array | None:
        """A weight by its role: "weight" (outputs first), "bias", "gamma", "beta", "constant"; None where it has none."""

    def set_weight(self, layer: str, role: str, value: Array | None) -> None:
        """Stores a weight; None drops it."""

    def setting(self, layer: str, key: str) -> Any:
        """A setting: "pad", "axis", "epsilon", "alpha", "shape", "perm", "exclude"; None where it has none."""

    def set_setting(self, layer: str, key: str, value: Any) -> None:
        """Stores a setting."""

    def labels(self) -> list[str]:
        """The class labels; empty where it is no classifier."""

    def set_labels(self, labels: list[str]) -> bool:
        """Stores class labels; False where the file has no place for them."""

    def spoil_preprocessing(self, factor: float) -> str | None:
        """Multiplies the picture's scale or std by a factor and says so; None where there is no picture."""

    def save(self, folder: Path) -> Path:
        """Writes the file."""


class Program:
    """An ML Program in a package."""

    KINDS: ClassVar = {
        "conv": "conv", "linear": "linear", "layer_norm": "layernorm", "batch_norm": "norm", "instance_norm": "norm",
        "avg_pool": "pool", "max_pool": "pool", "softmax": "softmax", "concat": "concat", "reduce_mean": "reduce",
        "reshape": "reshape", "transpose": "transpose", "mul": "constant", "sub": "constant", "add": "constant",
        "real_div": "constant", "leaky_relu": "activation", "elu": "activation", "clip": "activation",
    }  # fmt: skip
    KEYS: ClassVar = {"axis": ("axis", "axes"), "exclude": ("exclude_padding_from_average",)}

    def __init__(self, package: Path) -> None:
        from coreproof.model.coreml.proto import Model_pb2

        self.package = package
        self.spec = Model_pb2.Model.FromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
        blob = package / "Data/com.apple.CoreML/weights/weight.bin"
        self.blob = bytearray(blob.read_bytes()) if blob.exists() else bytearray()
        function = next(iter(self.spec.mlProgram.functions.values()))
        self.block = function.block_specializations[function.opset]

    def _operation(self, layer: str) -> Any:
        return next(o for o in self.block.operations if o.outputs and o.outputs[0].name == layer and o.type != "const")

    def _constant(self, operation: Any, key: str) -> Any:
        if key not in operation.inputs:
            return None
        binding = operation.inputs[key].arguments[0]
        if binding.WhichOneof("binding") == "value":
            return binding.value
        made = (o for o in self.block.operations if o.type == "const" and o.outputs[0].name == binding.name)
        constant = next(made, None)
        return None if constant is None else constant.attributes["val"]

    def layers(self) -> list[tuple[str, str]]:
        return [(o.outputs[0].name, self.KINDS[o.type]) for o in self.block.operations if o.type in self.KINDS]

    def _key(self, operation: Any, role: str) -> str | None:
        if role == "constant":
            keys = [k for k in ("x", "y") if (c := self._constant(operation, k)) is not None and _floating(c)]
            return keys[0] if keys and operation.type in ("mul", "sub", "add", "real_div") else None
        keys = [k for k in self.KEYS.get(role, (role,)) if k in operation.inputs]
        return keys[0] if keys else None

    def weight(self, layer: str, role: str) -> Array | None:
        operation = self._operation(layer)
        key = self._key(operation, role)
        if key is not None and (maker := self._compressed(operation, key)) is not None:
            data, scale = (self._constant(maker, k) for k in ("data", "scale"))
            return self._whole(data).astype(np.float32) * self._whole(scale).astype(np.float32)
        value = None if key is None else self._constant(operation, key)
        return None if value is None else self._read(value)

    def _compressed(self, operation: Any, key: str) -> Any:
        """What stores this argument in 8 bits with a scale a channel; None where it is stored as it is."""
        name = operation.inputs[key].arguments[0].name
        made = (
            o for o in self.block.operations if o.type == "constexpr_blockwise_shift_scale" and "offset" not in o.inputs
        )
        maker = next((o for o in made if o.outputs[0].name == name), None)
        return maker if maker is not None and self._constant(maker, "data").type.tensorType.dataType == 21 else None

    def _whole(self, value: Any) -> Array:
        """A stored tensor of float16, float32 or int8."""
        tensor = value.type.tensorType
        if tensor.dataType != 21:
            array = self._read(value)
            assert array is not None
            return array
        start, size = self._span(value.blobFileValue.offset)
        return np.frombuffer(bytes(self.blob[start : start + size]), np.int8).reshape(
            [d.constant.size for d in tensor.dimensions]
        )

    def _read(self, value: Any) -> Array | None:
        if not _floating(value):
            return None
        tensor = value.type.tensorType
        shape = [d.constant.size for d in tensor.dimensions]
        dtype = np.dtype(np.float16 if tensor.dataType == 10 else np.float32)
        if value.WhichOneof("value") == "blobFileValue":
            start, size = self._span(value.blobFileValue.offset)
            return np.frombuffer(bytes(self.blob[start : start + size]), dtype).reshape(shape)
        data = value.immediateValue.tensor
        if data.WhichOneof("value") == "bytes":
            return np.frombuffer(data.bytes.values, dtype).reshape(shape)
        return np.array(data.floats.values, dtype).reshape(shape)

    def _span(self, offset: int) -> tuple[int, int]:
        sentinel, _, size, start = struct.unpack_from("<IIQQ", self.blob, offset)
        assert sentinel == 0xDEADBEEF
        return start, size

    def set_weight(self, layer: str, role: str, value: Array | None) -> None:
        operation = self._operation(layer)
        key = self._key(operation, role)
        assert key is not None
        if value is None:
            del operation.inputs[key]
            return
        if self._compressed(operation, key) is not None:
            self._compress(self._own_maker(operation, key), value)
            return
        stored = self._constant(operation, key)
        half = stored.type.tensorType.dataType == 10
        if stored.WhichOneof("value") == "blobFileValue":
            self._store(self._own_constant(operation, key), value.astype(np.float16 if half else np.float32))
            return
        own = self._own_constant(operation, key)
        tensor = own.immediateValue.tensor
        if half:
            tensor.bytes.values = value.astype(np.float16).tobytes()
        else:
            tensor.floats.values[:] = value.astype(np.float32).reshape(-1).tolist()

    def _compress(self, maker: Any, value: Array) -> None:
        """Stores a weight in 8 bits, with a scale for what had one before."""
        scale = self._constant(maker, "scale")
        axes = tuple(i for i, d in enumerate(scale.type.tensorType.dimensions) if d.constant.size == 1)
        most = np.abs(value.astype(np.float32)).max(axes, keepdims=True)
        steps = np.where(most > 0, most / 127, 1).astype(np.float16)
        self._store(maker.inputs["data"].arguments[0].value, np.rint(value / steps).clip(-127, 127).astype(np.int8))
        if scale.WhichOneof("value") == "blobFileValue":
            self._store(scale, steps)
        else:
            scale.immediateValue.tensor.bytes.values = steps.tobytes()

    def _store(self, value: Any, array: Array) -> None:
        """Puts a tensor behind all others in the weight file: layers may share what is stored."""
        old = value.blobFileValue.offset
        kept = bytes(self.blob[old : old + 64])
        assert len(array.tobytes()) == self._span(old)[1]
        self.blob += bytes(-len(self.blob) % 64)
        value.blobFileValue.offset = place = len(self.blob)
        self.blob += kept[:16] + struct.pack("<Q", place + 64) + kept[24:] + array.tobytes()
        struct.pack_into("<I", self.blob, 0, struct.unpack_from("<I", self.blob)[0] + 1)

    def _own_constant(self, operation: Any, key: str) -> Any:
        """The constant of this argument alone: others may read the stored one."""
        binding = operation.inputs[key].arguments[0]
        if binding.WhichOneof("binding") == "value":
            return binding.value
        return self._own_maker(operation, key).attributes["val"]

    def _own_maker(self, operation: Any, key: str) -> Any:
        """What makes this argument, as a copy that no other layer reads."""
        binding = operation.inputs[key].arguments[0]
        place = [o.outputs[0].name if o.outputs else "" for o in self.block.operations].index(binding.name)
        stored = self.block.operations[place]
        before = list(self.block.operations)
        copy = type(stored)()
        copy.CopyFrom(stored)
        copy.outputs[0].name = f"{binding.name}_of_{operation.outputs[0].name}"
        if "name" in copy.attributes:
            copy.attributes["name"].immediateValue.tensor.strings.values[:] = [copy.outputs[0].name]
        binding.name = copy.outputs[0].name
        rest = [type(o).FromString(o.SerializeToString()) for o in before[place:]]
        del self.block.operations[place:]
        self.block.operations.extend([copy, *rest])
        return self.block.operations[place]

    def setting(self, layer: str, key: str) -> Any:
        operation = self._operation(layer)
        stored = self._constant(operation, self._key(operation, key) or key)
        if stored is None:
            return None
        if _floating(stored):
            return self._read(stored).item()  # type: ignore[union-attr]
        tensor = stored.immediateValue.tensor
        values = list(getattr(tensor, tensor.WhichOneof("value")).values)
        return values[0] if not stored.type.tensorType.dimensions else values

    def set_setting(self, layer: str, key: str, value: Any) -> None:
        operation = self._operation(layer)
        stored = self._own_constant(operation, self._key(operation, key) or key)
        tensor = stored.immediateValue.tensor
        if tensor.WhichOneof("value") == "bytes":
            tensor.bytes.values = np.float16(value).tobytes()
        else:
            getattr(tensor, tensor.WhichOneof("value")).values[:] = value if isinstance(value, list) else [value]

    def _classes(self) -> Any:
        classify = [o for o in self.block.operations if o.type == "classify"]
        return self._constant(classify[0], "classes").immediateValue.tensor.strings.values if classify else None

    def labels(self) -> list[str]:
        return list(self._classes() or ())

    def set_labels(self, labels: list[str]) -> bool:
        classes = self._classes()
        if classes is None:
            return False
        classes[:] = labels
        return True

    def spoil_preprocessing(self, factor: float) -> str | None:
        pictures = [i.name for i in self.spec.description.input if i.type.WhichOneof("Type") == "imageType"]
        read = list(pictures)
        for operation in self.block.operations if pictures else ():
            arguments = [b.name for a in operation.inputs.values() for b in a.arguments]
            if operation.type == "cast" and set(arguments) & set(read):
                read.append(operation.outputs[0].name)
            value = self.weight(operation.outputs[0].name, "constant") if set(arguments) & set(read) else None
            if value is not None:
                self.set_weight(operation.outputs[0].name, "constant", value * factor)
                return f"{operation.type} behind the picture times {factor:g}"
        return None

    def save(self, folder: Path) -> Path:
        import shutil

        target = folder / "planted.mlpackage"
        shutil.copytree(self.package, target)
        (target / "Data/com.apple.CoreML/model.mlmodel").write_bytes(self.spec.SerializeToString())
        if self.blob:
            (target / "Data/com.apple.CoreML/weights/weight.bin").write_bytes(bytes(self.blob))
        return target


def _floating(value: Any) -> bool:
    return value.type.tensorType.dataType in (10, 11)


class Network:
    """A NeuralNetwork in a file."""

    KINDS: ClassVar = {
        "convolution": "conv", "innerProduct": "linear", "batchedMatmul": "linear", "batchnorm": "norm",
        "layerNormalization": "layernorm", "pooling": "pool", "softmaxND": "softmax", "concatND": "concat",
        "reduceMean": "reduce", "reshapeStatic": "reshape", "transpose": "transpose", "loadConstantND": "constant",
    }  # fmt: skip
    ROLES: ClassVar = {"weight": "weights", "constant": "data"}

    def __init__(self, file: Path) -> None:
        from coreproof.model.coreml.proto import Model_pb2

        self.spec = Model_pb2.Model.FromString(file.read_bytes())
        self.network = getattr(self.spec, self.spec.WhichOneof("Type"))

    def _kind(self, layer: Any) -> str | None:
        kind = layer.WhichOneof("layer")
        if kind == "activation":
            return "activation"
        return self.KINDS.get(kind)

    def _layer(self, name: str) -> Any:
        layer = next(x for x in self.network.layers if x.name == name)
        return getattr(layer, layer.WhichOneof("layer"))

    def layers(self) -> list[tuple[str, str]]:
        return [(x.name, kind) for x in self.network.layers if (kind := self._kind(x)) is not None]

    def weight(self, layer: str, role: str) -> Array | None:
        body = self._layer(layer)
        field = self.ROLES.get(role, role)
        if field not in body.DESCRIPTOR.fields_by_name or not body.HasField(field):
            return None
        stored = getattr(body, field)
        values = np.array(stored.floatValue, np.float32)
        return values.reshape(self._shape(body, field, values.size)) if values.size else None

    def _shape(self, body: Any, field: str, size: int) -> tuple[int, ...]:
        if field == "weights" and "kernelChannels" in body.DESCRIPTOR.fields_by_name:
            first = body.kernelChannels if body.isDeconvolution else body.outputChannels
            return (first, -1, *body.kernelSize)
        if field == "weights" and "inputChannels" in body.DESCRIPTOR.fields_by_name:
            return (body.outputChannels, body.inputChannels)
        return (size,)

    def set_weight(self, layer: str, role: str, value: Array | None) -> None:
        body = self._layer(layer)
        field = self.ROLES.get(role, role)
        if value is None:
            body.ClearField(field)
            body.hasBias = False
        else:
            getattr(body, field).floatValue[:] = value.astype(np.float32).reshape(-1).tolist()

    def setting(self, layer: str, key: str) -> Any:
        body = self._layer(layer)
        if key == "alpha":
            inner = (
                getattr(body, body.WhichOneof("NonlinearityType"), None)
                if "ReLU" in body.DESCRIPTOR.fields_by_name
                else None
            )
            return getattr(inner, "alpha", None)
        if key == "pad":
            if "valid" not in body.DESCRIPTOR.fields_by_name or not body.HasField("valid"):
                return None
            amounts = body.valid.paddingAmounts.borderAmounts
            return [n for a in amounts for n in (a.startEdgeSize, a.endEdgeSize)]
        names = {"exclude": "avgPoolExcludePadding", "shape": "targetShape", "perm": "axes"}
        name = names.get(key, key)
        if key == "axis" and "axes" in body.DESCRIPTOR.fields_by_name and "keepDims" in body.DESCRIPTOR.fields_by_name:
            name = "axes"
        if name not in body.DESCRIPTOR.fields_by_name:
            return None
        value = getattr(body, name)
        return value if isinstance(value, int | float | bool) else list(value)

    def set_setting(self, layer: str, key: str, value: Any) -> None:
        body = self._layer(layer)
        if key == "alpha":
            getattr(body, body.WhichOneof("NonlinearityType")).alpha = value
        elif key == "pad":
            for amount, start, end in zip(
                body.valid.paddingAmounts.borderAmounts, value[::2], value[1::2], strict=True
            ):
                amount.startEdgeSize, amount.endEdgeSize = start, end
        else:
            name = {"exclude": "avgPoolExcludePadding", "shape": "targetShape", "perm": "axes"}.get(key, key)
            name = "axes" if isinstance(value, list) and name == "axis" else name
            if isinstance(value, list):
                getattr(body, name)[:] = value
            else:
                setattr(body, name, value)

    def labels(self) -> list[str]:
        return list(getattr(self.network, "stringClassLabels", None).vector) if self._classifies() else []  # type: ignore[union-attr]

    def _classifies(self) -> bool:
        return "stringClassLabels" in self.network.DESCRIPTOR.fields_by_name

    def set_labels(self, labels: list[str]) -> bool:
        if self._classifies():
            self.network.stringClassLabels.vector[:] = labels
        return self._classifies()

    def spoil_preprocessing(self, factor: float) -> str | None:
        for step in self.network.preprocessing:
            if step.WhichOneof("preprocessor") == "scaler":
                step.scaler.channelScale *= factor
                return f"channelScale times {factor:g}"
        return None

    def save(self, folder: Path) -> Path:
        target = folder / "planted.mlmodel"
        target.write_bytes(self.spec.SerializeToString())
        return target


def open_plantable(file: Path) -> Plantable:
    """The file by its format."""
    if file.suffix == ".onnx":
        return Onnx(file)
    return Program(file) if file.suffix == ".mlpackage" else Network(file)
