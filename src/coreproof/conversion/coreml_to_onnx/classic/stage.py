"""Stage: where the handler of a model kind finds what its model reads, and puts what it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.classic.held import Dictionary, Held, Labels, scores_of
from coreproof.errors import ConversionError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature

DOUBLE, INT64, STRING = ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.STRING
SINGLE: Mapping[str, ir.DataType] = {"double": DOUBLE, "int64": INT64, "string": STRING}
"""The kinds of features that are one number, or one text."""
ML = "ai.onnx.ml"


@dataclass
class SharedGraph:
    """What all stages of one model share: the graph, and the inputs of it that need not be fed."""

    b: OnnxBuilder
    precision: str
    optional: dict[ir.Value, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    flat: ir.Value | None = None
    """The shape of a vector of any length, for Reshape: a model may have thousands of inputs."""


class Stage:
    """One model, by itself or within a pipeline. ``held`` is what stands under the names of features when it begins."""

    def __init__(self, model: CoreMLModel, where: str, held: Mapping[str, Held], shared: SharedGraph) -> None:
        self.model = model
        self.where = where
        self.held = dict(held)
        self.shared = shared
        self.made: dict[str, Held] = {}

    @property
    def b(self) -> OnnxBuilder:
        """The graph that grows."""
        return self.shared.b

    # what is read

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """The features that the model takes, in the order in which it declares them."""
        return self.model.signature.inputs

    def read(self, name: str | None = None, *, default: float | None = None) -> Held:
        """What stands under the name of an input, of the only one where None; ``default`` is what it is where nobody feeds it."""
        name = self.inputs[0].name if name is None else name
        held = self.held[name]
        if isinstance(held, ir.Value) and held in self.shared.optional and default is not None:
            self._give_default(held, default)
        return held

    def may_be_left_out(self, name: str) -> None:
        """An input of the whole that the file declares as one to be fed, and Core ML does without."""
        # what an earlier stage makes is there in any case
        held = self.held[name]
        if isinstance(held, ir.Value) and held in self.b.inputs:
            self.shared.optional[held] = name

    def may_be_empty(self, name: str) -> None:
        """A list that need not be fed is empty then."""
        held = self.held[name]
        if isinstance(held, ir.Value) and held in self.shared.optional and held.const_value is None:
            assert held.dtype is not None
            nothing = np.zeros(0, str if held.dtype == STRING else held.dtype.numpy())
            tensor: ir.TensorProtocol = ir.Tensor(nothing, name=held.name)
            if held.dtype == STRING:
                tensor = ir.StringTensor([], shape=ir.Shape([0]), name=held.name)
            # ONNX: an input that has an initializer of its name need not be fed
            held.const_value = tensor
            self.b.initializers[held.name or ""] = held

    def value(self, name: str | None = None, *, default: float | None = None) -> ir.Value:
        """An input that is no dictionary."""
        held = self.read(name, default=default)
        if isinstance(held, Dictionary):
            raise self.refuse(
                f"input {name or self.inputs[0].name!r} is a dictionary, which this kind of model does not read"
            )
        return held

    def numbers(self, name: str | None = None, *, default: float | None = None) -> ir.Value:
        """An input as float64, in its own shape."""
        value = self.value(name, default=default)
        if value.dtype == STRING:
            raise self.refuse(f"input {name or self.inputs[0].name!r} is a text, where numbers are wanted")
        return self.cast(value, DOUBLE)

    def vector(self, *, default: float | None = None) -> ir.Value:
        """All inputs one after the other, as a vector of float64."""
        parts = [self.flat(self.numbers(feature.name, default=default)) for feature in self.inputs]
        return parts[0] if len(parts) == 1 else self.b.op("Concat", *parts, axis=0)

    def _give_default(self, value: ir.Value, default: float) -> None:
        assert value.dtype is not None
        dtype = value.dtype.numpy()
        known = value.const_value
        shape = [d if isinstance(d, int) else 1 for d in value.shape or ()]
        filled = np.full(shape, default).astype(dtype)
        # one input has one default in ONNX
        if known is not None and not np.array_equal(known.numpy(), filled, equal_nan=dtype.kind == "f"):
            raise self.refuse(
                f"the optional input {self.shared.optional[value]!r} is read by several stages that say different defaults"
            )
        value.const_value = ir.Tensor(filled, name=value.name)
        self.b.initializers[value.name or ""] = value

    # what is made

    def write(self, name: str, held: Held) -> None:
        """An output of the model, brought into the form that its feature declares."""
        self.made[name] = self.as_declared(self.model.signature.output(name), held)

    def write_only(self, held: Held) -> None:
        """The model's one output."""
        self.write(self.model.signature.outputs[0].name, held)

    def write_class(self, labels: Labels, scores: ir.Value) -> None:
        """A classifier's outputs: the label of the best score, of equal ones the first; and the scores."""
        signature = self.model.signature
        names = {f.name for f in signature.outputs}
        if signature.probabilities in names:
            assert signature.probabilities is not None
            self.write(signature.probabilities, Dictionary(labels, scores))
        if signature.predicted_label in names:
            assert signature.predicted_label is not None
            if signature.probabilities not in names:
                # a label alone hides how sure it is: the scores stay there for whoever compares
                self.made[scores_of(signature.predicted_label)] = Dictionary(labels, scores)
            # of equal ones the first (ONNX, ArgMax: select_last_index is 0)
            index = self.b.op("ArgMax", scores, axis=0, keepdims=0)
            self.write(signature.predicted_label, self.b.op("Gather", label_array(labels), index))

    def as_declared(self, feature: Feature, held: Held) -> Held:
        """What is held in the dtype and the shape that the feature declares."""
        if isinstance(held, Dictionary) != (feature.kind == "dictionary"):
            found = "a dictionary" if isinstance(held, Dictionary) else "an array or a single value"
            raise self.refuse(f"feature {feature.name!r} is declared as {feature.kind}", found=found)
        if isinstance(held, Dictionary) or feature.kind == "image":
            return held
        if feature.kind in SINGLE:
            self._require_texts(feature, held, texts=feature.kind == "string")
            value = self.cast(held, SINGLE[feature.kind])
            return value if known_shape(value) == () else self.b.op("Reshape", value, np.zeros(0, np.int64))
        if feature.kind == "sequence":
            self._require_texts(feature, held, texts=feature.dtype == "str")
            return self.flat(held)
        self._require_texts(feature, held, texts=False)
        value = self.cast(held, ir.DataType.from_numpy(np.dtype(feature.dtype or "float64")))
        shape, known = feature.shape, known_shape(value)
        if feature.ranges or feature.enumerated or shape is None or shape == known:
            return value
        lengths = [d for d in shape if isinstance(d, int)]
        if known is None or (len(lengths) == len(shape) and prod(lengths) == prod(known)):
            return self.b.op("Reshape", value, np.array(lengths, np.int64))
        raise self.refuse(
            f"feature {feature.name!r} has another size than it declares", expected=list(shape), found=list(known)
        )

    def _require_texts(self, feature: Feature, value: ir.Value, *, texts: bool) -> None:
        if (value.dtype == STRING) != texts:
            raise self.refuse(
                f"feature {feature.name!r} is declared as {feature.kind}", found="a text" if not texts else "a number"
            )

    # small conversions

    def cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        """The value as ``to``, without a node where it is that already."""
        return value if value.dtype == to else self.b.op("Cast", value, to=int(to))

    def flat(self, value: ir.Value) -> ir.Value:
        """The value as a vector."""
        shape = known_shape(value)
        if shape is not None and len(shape) == 1:
            return value
        if self.shared.flat is None:
            self.shared.flat = self.b.constant(np.array([-1], np.int64), "flat")
        return self.b.op("Reshape", value, self.shared.flat)

    def positions(self, value: ir.Value, keys: Labels) -> ir.Value:
        """Where each text or whole number stands among the keys; their number for one that is not there."""
        if not keys:
            return self.b.op("Expand", np.array(0, np.int64), self.b.op("Shape", value))
        return self.encoded(value, keys, list(range(len(keys))), len(keys))

    def encoded(
        self, value: ir.Value, keys: Labels, values: Sequence[int] | Sequence[str], unknown: int | str
    ) -> ir.Value:
        """Each text or whole number as what belongs to it, by ai.onnx.ml's LabelEncoder."""
        texts, to_texts = isinstance(keys[0], str), isinstance(unknown, str)
        if (value.dtype == STRING) != texts:
            raise self.refuse("it looks up " + ("texts" if texts else "whole numbers"), found=str(value.dtype))
        source, target = "strings" if texts else "int64s", "strings" if to_texts else "int64s"
        fallback: dict[str, Any] = {"default_string" if to_texts else "default_int64": unknown}
        listed: dict[str, Any] = {f"keys_{source}": list(keys), f"values_{target}": list(values), **fallback}
        result: ir.Value = self.b.op("LabelEncoder", value if texts else self.cast(value, INT64), domain=ML, **listed)
        result.type, result.shape = ir.TensorType(STRING if to_texts else INT64), value.shape
        return result

    def require(self, truth: ir.Value, result: ir.Value, words: str) -> ir.Value:
        """``result``, as long as ``truth`` (one bool) holds; else the run ends with an error that these words are in.

        ONNX has no operator that fails on purpose: a position outside of an array is what every engine refuses.
        """
        index = self.b.op("Where", truth, np.array(0, np.int64), np.array(1, np.int64))
        zero = self.b.op("Gather", np.zeros(1, np.int64), self.b.op("Reshape", index, np.zeros(0, np.int64)))
        node = zero.producer()
        assert node is not None
        node.name = f"{self.where}: {words}"
        # the result hangs on the check: it is reshaped by a shape to which the check adds nothing
        return self.b.op("Reshape", result, self.b.op("Add", self.b.op("Shape", result), zero), allowzero=1)

    def refuse(
        self, problem: str, *, expected: object = None, found: object = None, fix: str | None = None
    ) -> ConversionError:
        """The error for a model in a form that is not lowered."""
        return ConversionError(
            f"{self.model.kind}: {problem}", where=self.where, expected=expected, found=found, fix=fix
        )


def label_array(labels: Labels) -> np.ndarray:
    """Class labels as the constant that a label is picked from."""
    return np.array(labels, dtype=str if labels and isinstance(labels[0], str) else np.int64)


def known_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The shape, where all lengths are known now."""
    lengths = None if value.shape is None else [d for d in value.shape if isinstance(d, int)]
    return (
        tuple(lengths) if lengths is not None and value.shape is not None and len(lengths) == len(value.shape) else None
    )


def f64(values: object) -> np.ndarray:
    """A constant of float64, in which these models compute."""
    return np.asarray(values, np.float64)
