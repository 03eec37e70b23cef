"""ONNX files opened for planting faults, on the bare protobuf: nothing is shared with the editing that is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, Any]


class Onnx:
    """An ONNX file."""

    KINDS: ClassVar = {
        "Conv": "conv", "Gemm": "linear", "MatMul": "linear", "BatchNormalization": "norm",
        "InstanceNormalization": "norm", "LayerNormalization": "layernorm", "AveragePool": "pool", "MaxPool": "pool",
        "Softmax": "softmax", "Concat": "concat", "ReduceMean": "reduce", "Reshape": "reshape", "Transpose": "transpose",
        "Mul": "constant", "Sub": "constant", "Add": "constant", "Div": "constant", "LeakyRelu": "activation",
        "Elu": "activation",
    }  # fmt: skip
    KEYS: ClassVar = {"pad": "pads", "exclude": "count_include_pad"}

    def __init__(self, file: Path) -> None:
        import onnx

        self.model = onnx.load(file)

    def _node(self, layer: str) -> Any:
        return next(n for n in self.model.graph.node if n.name == layer)

    def _initializer(self, name: str) -> Any:
        return next((i for i in self.model.graph.initializer if i.name == name), None)

    def layers(self) -> list[tuple[str, str]]:
        return [(n.name, self.KINDS[n.op_type]) for n in self.model.graph.node if n.op_type in self.KINDS]

    def _place(self, node: Any, role: str) -> int | None:
        if role == "constant":
            kept = [i for i, n in enumerate(node.input) if (t := self._initializer(n)) is not None and t.data_type == 1]
            return kept[0] if kept and node.op_type in ("Mul", "Sub", "Add", "Div") else None
        if node.op_type in ("Mul", "Sub", "Add", "Div", "Reshape"):
            return None
        place = {"weight": 1, "gamma": 1, "bias": 2, "beta": 2}.get(role, 9)
        if (role in ("gamma", "beta")) != ("Normalization" in node.op_type):
            return None
        return place if place < len(node.input) else None

    def weight(self, layer: str, role: str) -> Array | None:
        import onnx

        node = self._node(layer)
        place = self._place(node, role)
        stored = None if place is None else self._initializer(node.input[place])
        if place is not None and (narrow := self._dequantized(node.input[place])) is not None:
            array: Array = self._dense(narrow)
        elif stored is None:
            return None
        else:
            array = onnx.numpy_helper.to_array(stored)
        return array.T if self._inputs_first(node, role) else array

    def _inputs_first(self, node: Any, role: str) -> bool:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return role == "weight" and node.op_type in ("Gemm", "MatMul") and not transposed

    def set_weight(self, layer: str, role: str, value: Array | None) -> None:
        import onnx

        node = self._node(layer)
        place = self._place(node, role)
        assert place is not None
        if value is None:
            del node.input[place]
            return
        stored = value.T if self._inputs_first(node, role) else value
        if (narrow := self._dequantized(node.input[place])) is not None:
            node.input[place] = self._quantize(narrow, np.ascontiguousarray(stored), layer)
            return
        fresh = onnx.numpy_helper.from_array(
            np.ascontiguousarray(stored, np.float32), f"{node.input[place]}_of_{layer}"
        )
        self.model.graph.initializer.append(fresh)
        node.input[place] = fresh.name

    def _dequantized(self, name: str) -> Any:
        """The DequantizeLinear of a stored weight; None where the value is none."""
        made = (n for n in self.model.graph.node if n.op_type == "DequantizeLinear" and n.output[0] == name)
        narrow = next(made, None)
        return narrow if narrow is not None and all(self._initializer(i) is not None for i in narrow.input) else None

    def _parts(self, narrow: Any) -> tuple[Array, Array, Array]:
        """The stored integers, and scale and zero point in a shape that fits them."""
        import onnx

        data, scale, zero = (onnx.numpy_helper.to_array(self._initializer(name)) for name in narrow.input)
        axis = next((a.i for a in narrow.attribute if a.name == "axis"), 1)
        shape = [-1 if i == axis else 1 for i in range(data.ndim)] if scale.size > 1 else [1] * data.ndim
        return data, scale.reshape(shape), zero.reshape(shape)

    def _dense(self, narrow: Any) -> Array:
        data, scale, zero = self._parts(narrow)
        dense: Array = (data.astype(np.float32) - zero.astype(np.float32)) * scale
        return dense

    def _quantize(self, narrow: Any, value: Array, layer: str) -> str:
        """Stores a weight in the bits that it had, for one layer alone, with a scale that holds it; its new name."""
        import onnx

        data, scale, zero = self._parts(narrow)
        limits = np.iinfo(data.dtype)
        steps = scale
        if data.dtype == np.int8:
            axes = tuple(i for i, n in enumerate(scale.shape) if n == 1)
            most = np.abs(value - 0.0).max(axes, keepdims=True)
            steps = np.where(most > 0, most / 127, 1).astype(np.float32)
        stored = (np.rint(value / steps) + zero).clip(limits.min, limits.max).astype(data.dtype)
        copy = onnx.NodeProto.FromString(narrow.SerializeToString())
        copy.name, copy.output[0] = f"{narrow.name}_of_{layer}", f"{narrow.output[0]}_of_{layer}"
        flat = onnx.numpy_helper.to_array(self._initializer(narrow.input[1])).shape
        for place, array in ((0, stored), (1, steps.reshape(flat))):
            copy.input[place] = f"{narrow.input[place]}_of_{layer}"
            self.model.graph.initializer.append(onnx.numpy_helper.from_array(array, copy.input[place]))
        self.model.graph.node.insert(0, copy)
        return str(copy.output[0])

    def setting(self, layer: str, key: str) -> Any:
        import onnx

        node = self._node(layer)
        if key == "shape" or (key == "axis" and node.op_type == "ReduceMean"):
            stored = self._initializer(node.input[1]) if len(node.input) > 1 else None
            return None if stored is None or stored.data_type != 7 else onnx.numpy_helper.to_array(stored).tolist()
        name = self.KEYS.get(key, key)
        found = [onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name]
        if key == "pad" and found and len(found[0]) == 4:
            top, left, bottom, right = found[0]
            return [top, bottom, left, right]
        return found[0] if found else None

    def set_setting(self, layer: str, key: str, value: Any) -> None:
        import onnx

        node = self._node(layer)
        if key == "shape" or (key == "axis" and node.op_type == "ReduceMean"):
            fresh = onnx.numpy_helper.from_array(np.array(value, np.int64), f"{node.input[1]}_of_{layer}")
            self.model.graph.initializer.append(fresh)
            node.input[1] = fresh.name
            return
        name = self.KEYS.get(key, key)
        if key == "pad" and len(value) == 4:
            value = [value[0], value[2], value[1], value[3]]
        kept = [a for a in node.attribute if a.name != name]
        fresh_attribute = onnx.helper.make_attribute(name, value)
        del node.attribute[:]
        node.attribute.extend([*kept, fresh_attribute])

    def labels(self) -> list[str]:
        return []

    def set_labels(self, labels: list[str]) -> bool:
        return False

    def spoil_preprocessing(self, factor: float) -> str | None:
        return None

    def save(self, folder: Path) -> Path:
        target = folder / "planted.onnx"
        target.write_bytes(self.model.SerializeToString())
        return target
