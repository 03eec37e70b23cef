"""Texts and dictionaries that an ONNX model is fed: numbers inside, which stages of a pipeline in front of it make of them.

A multi-array holds no text. Every text that a model knows (a category, a key, a name) stands in the model, so that each of them
can be its place in one list; what is none of them is the number behind the last, which equals nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.ops.classes import ML
from coreproof.errors import ConversionError
from coreproof.model.onnx.constants import known_tensor
from coreproof.model.onnx.types import is_tensor

MOST_COLUMNS = 1024
"""Texts of one input, each of which becomes an input of its own."""
_MOVED = frozenset(
    ["Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Gather", "GatherElements", "GatherND", "Slice",
     "Split", "Expand", "Tile", "Concat", "Where", "Compress", "ArrayFeatureExtractor"]
)  # fmt: skip
"""Operators that hand texts on as they are."""


@dataclass(frozen=True)
class TextInput:
    """An input of texts: a feature a text, named as the input where it is one, else with the number of its column behind it."""

    name: str
    columns: int

    @property
    def features(self) -> tuple[str, ...]:
        """What the model is fed in its place."""
        return (self.name,) if self.columns == 1 else tuple(f"{self.name}_{at}" for at in range(self.columns))

    @property
    def numbers(self) -> str:
        """What the network reads: the places of its texts in the list."""
        return f"{self.name}_numbers"


@dataclass(frozen=True)
class DictionaryInput:
    """An input that is a dictionary, of which the network reads the values of these keys in a row."""

    name: str
    keys: tuple[str, ...] | tuple[int, ...]

    @property
    def numbers(self) -> str:
        """What the network reads."""
        return f"{self.name}_values"


@dataclass(frozen=True)
class Texts:
    """What stands in front of a network: the list of all texts that it knows, and the inputs that are texts or dictionaries."""

    known: tuple[str, ...] = ()
    inputs: tuple[TextInput, ...] = ()
    dictionaries: tuple[DictionaryInput, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.inputs or self.dictionaries)


def number_texts(model: ir.Model, source: str) -> Texts:
    """Makes numbers of all texts in a graph that is fed some, and rows of the dictionaries that it is fed.

    Raises ConversionError, for all of them at once, where a text is computed, taken apart or handed out.
    """
    graph = model.graph
    dictionaries = tuple(_dictionaries(graph))
    taken = [v for v in graph.inputs if v.dtype == ir.DataType.STRING and is_tensor(v.type)]
    if not taken:
        return Texts(dictionaries=dictionaries)
    work = _Numbering(model, source)
    inputs = tuple(work.enter(value) for value in taken)
    work.walk()
    return Texts(tuple(work.known), inputs, dictionaries)


def _dictionaries(graph: ir.Graph) -> Iterator[DictionaryInput]:
    """Dictionaries that a DictVectorizer alone reads: the network reads what that made."""
    for value in list(graph.inputs):
        reading = [use.node for use in value.uses()]
        if is_tensor(value.type) or len(reading) != 1 or reading[0].op_type != "DictVectorizer":
            continue
        node = reading[0]
        texts, numbers = node.attributes.get("string_vocabulary"), node.attributes.get("int64_vocabulary")
        # its whole vocabulary is texts or numbers, never both (ai.onnx.ml, DictVectorizer)
        made = node.outputs[0]
        if made.dtype == ir.DataType.STRING or (texts is None) == (numbers is None):
            continue
        entry = DictionaryInput(
            value.name or "",
            tuple(map(str, texts.as_strings())) if texts is not None else tuple(numbers.as_ints() if numbers else ()),
        )
        row = _input(graph, value, entry.numbers, len(entry.keys))
        # DictVectorizer makes [1, keys], a feature of Core ML is the row alone
        shaped = _node("Reshape", [row, _constant(graph, f"{entry.numbers}_shape", np.array([1, -1], np.int64))])
        graph.insert_before(node, shaped)
        ir.convenience.replace_all_uses_with(made, shaped.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)
        shaped.outputs[0].name, shaped.outputs[0].shape = made.name, made.shape
        shaped.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        yield entry


def _input(graph: ir.Graph, value: ir.Value, name: str, length: int) -> ir.Value:
    """An input of so many floats in the place of another."""
    # a FeatureVectorizer hands on floats; places in a list of texts are exact in them
    row = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([length]))
    graph.inputs[list(graph.inputs).index(value)] = row
    return row


def _node(operator: str, inputs: Sequence[ir.Value], **attributes: int) -> ir.Node:
    node = ir.node(operator, list(inputs), attributes)
    node.outputs[0].name = f"{inputs[0].name}_{operator.lower()}"
    return node


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


@dataclass
class _Numbering:
    """Goes through the nodes once; ``numbered`` holds the values that were texts, ``known`` the list that they are places in.

    ``fed`` are those among them that may hold texts of no list, which all have one place.
    """

    model: ir.Model
    source: str
    known: dict[str, int] = field(default_factory=dict)
    numbered: set[ir.Value] = field(default_factory=set)
    fed: set[ir.Value] = field(default_factory=set)
    problems: list[ConversionError] = field(default_factory=list)

    def enter(self, value: ir.Value) -> TextInput:
        """Puts an input of numbers in the place of one of texts."""
        graph = self.model.graph
        # a free length is the batch, of which an app feeds one; without a shape the columns are not known
        lengths = [d if isinstance(d, int) else 1 for d in value.shape] if value.shape is not None else [0]
        entry = TextInput(value.name or "", prod(lengths))
        if not 0 < entry.columns <= MOST_COLUMNS:
            raise ConversionError(
                f"input {entry.name!r} is of texts, each of which becomes an input of its own",
                where=self.source,
                expected=f"1 to {MOST_COLUMNS} of them",
                found="no shape" if value.shape is None else str(list(value.shape)),
            )
        row = _input(graph, value, entry.numbers, entry.columns)
        cast = _node("Cast", [row], to=int(ir.DataType.INT64))
        shape = _constant(graph, f"{entry.numbers}_shape", np.array(lengths, np.int64))
        shaped = _node("Reshape", [cast.outputs[0], shape])
        # each is put in front of the first node, so that the last one inserted stands first
        for node in (shaped, cast):
            if len(graph):
                graph.insert_before(graph[0], node)
            else:  # nothing but what no output is made of read it
                graph.append(node)
        ir.convenience.replace_all_uses_with(value, shaped.outputs[0], replace_graph_outputs=True)
        self.numbered.add(shaped.outputs[0])
        self.fed.add(shaped.outputs[0])
        return entry

    def place(self, text: str) -> int:
        """The text's place in the list, at the end of which it is put where it is new."""
        return self.known.setdefault(text, len(self.known))

    def walk(self) -> None:
        """Numbers what is computed with texts. Raises ConversionError for all that cannot be."""
        graph = self.model.graph
        # constants first: what reads them below has to find places there already
        for value in list(graph.initializers.values()):
            self._stored(value)
        for node in list(graph):
            try:
                self._number(node)
            except ConversionError as error:
                self.problems.append(error)
        for value in graph.outputs:
            if value in self.numbered:
                self.problems.append(
                    ConversionError(
                        f"output {value.name!r} hands on a text that the model was fed",
                        where=self.source,
                        expected="texts that the model knows",
                        fix="remove the output: coreproof edit",
                    )
                )
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            several = ConversionError(
                f"{len(self.problems)} nodes make of texts what Core ML cannot",
                where=self.source,
                found="; ".join(f"{p.where}: {p.problem}" for p in self.problems),
            )
            several.problems = tuple(self.problems)
            raise several

    def _stored(self, value: ir.Value) -> None:
        """A constant of texts as their places."""
        held = known_tensor(value)
        if held is None or held.dtype != ir.DataType.STRING:
            return
        texts = [t.decode() if isinstance(t, bytes) else str(t) for t in held.numpy().reshape(-1)]
        places = np.array([self.place(text) for text in texts], np.int64).reshape(held.shape.numpy())
        stored = _constant(self.model.graph, f"{value.name}_places", places)
        ir.convenience.replace_all_uses_with(value, stored)
        self.numbered.add(stored)

    def _number(self, node: ir.Node) -> None:
        if node.op_type == "Constant" and (held := known_tensor(node.outputs[0])) is not None:
            if held.dtype == ir.DataType.STRING:
                self._stored(node.outputs[0])
            return
        reads = [value for value in node.inputs if value is not None and value in self.numbered]
        made = [value for value in node.outputs if value.dtype == ir.DataType.STRING]
        if not reads:
            return
        if node.op_type == "Equal":
            # equal places are equal texts, as long as one of the two is known: those of no list have one place together
            if self.fed.issuperset(node.inputs):
                raise ConversionError(
                    "Equal compares two texts that the model is fed, of which neither need be one that it knows",
                    where=f"node {node.name or node.outputs[0].name!r}",
                    expected="one of them a constant",
                    fix="do it in the app, and convert what is behind it: coreproof edit, extract",
                )
            return
        if node.domain == ML and node.op_type in ("OneHotEncoder", "LabelEncoder", "CategoryMapper"):
            self._encoder(node)
        # a Cast from text to text changes nothing; one to a number would parse, which places cannot
        elif node.op_type in _MOVED or (node.op_type == "Cast" and made):
            if node.op_type == "Cast":
                node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.INT64))
            self.numbered.update(node.outputs)
            if not self.fed.isdisjoint(reads):
                self.fed.update(node.outputs)
            for value in node.outputs:
                value.dtype = ir.DataType.INT64
        else:
            raise ConversionError(
                f"{node.op_type} takes texts apart, which no Core ML model does with what it is fed",
                where=f"node {node.name or node.outputs[0].name!r}",
                expected="texts that are looked up: OneHotEncoder, LabelEncoder, CategoryMapper, Equal",
                fix="do it in the app, and convert what is behind it: coreproof edit, extract",
            )

    def _encoder(self, node: ir.Node) -> None:
        attributes = node.attributes
        if node.op_type == "OneHotEncoder":
            texts = attributes.pop("cats_strings", None)
            attributes["cats_int64s"] = self._places("cats_int64s", texts)
            return
        if node.op_type == "CategoryMapper" or "classes_strings" in attributes:
            self._as_label_encoder(node)
        attributes["keys_int64s"] = self._places("keys_int64s", attributes.pop("keys_strings", None))
        if (values := attributes.pop("values_strings", None)) is not None:
            attributes["values_int64s"] = self._places("values_int64s", values)
            default = attributes.pop("default_string", None)
            # the standard's default of default_string (ai.onnx.ml, LabelEncoder)
            word = default.as_string() if default is not None else "_Unused"
            attributes["default_int64"] = ir.AttrInt64("default_int64", self.place(word))
            node.outputs[0].dtype = ir.DataType.INT64
            self.numbered.update(node.outputs)

    def _as_label_encoder(self, node: ir.Node) -> None:
        """The older spellings, of which each is a list of texts with their numbers."""
        attributes = node.attributes
        texts = attributes.pop("classes_strings", None) or attributes.pop("cats_strings", None)
        numbers = attributes.pop("cats_int64s", None)
        count = len(texts.as_strings()) if texts is not None else 0
        # classes_strings of LabelEncoder 1 has no numbers: a class is its place in the list
        of_each = list(numbers.as_ints()) if numbers is not None else list(range(count))
        node.op_type = "LabelEncoder"
        if texts is not None:
            attributes["keys_strings"] = ir.AttrStrings("keys_strings", list(texts.as_strings()))
        attributes["values_int64s"] = ir.AttrInt64s("values_int64s", of_each)
        attributes.pop("default_string", None)
        # keys and values came to LabelEncoder with version 2 of ai.onnx.ml
        self.model.opset_imports[ML] = max(self.model.opset_imports.get(ML, 1), 2)

    def _places(self, name: str, texts: ir.Attr | None) -> ir.Attr:
        if texts is None:
            raise ConversionError("it is fed texts, and looks up none", expected="an attribute that ends in _strings")
        return ir.AttrInt64s(name, [self.place(text) for text in texts.as_strings()])
