"""What a saved run says of its model: signature, graph and feedings as JSON holds them, read back entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TypeVar, get_args

import numpy as np

from coreproof.model.features import Colour, Dimension, Feature, ImageLayout, Kind, ShapeRange, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.files.entries import Entry
from coreproof.model.graph import Graph, Node, Value

_T = TypeVar("_T")
_LONGEST = 2**40


def signature_to(signature: Signature) -> dict[str, object]:
    """A signature as JSON holds it."""
    return {
        "inputs": [_feature_to(f) for f in signature.inputs],
        "outputs": [_feature_to(f) for f in signature.outputs],
        "states": [_feature_to(f) for f in signature.states],
        "labels": None if signature.labels is None else list(signature.labels),
        "predicted_label": signature.predicted_label,
        "probabilities": signature.probabilities,
        "scores": signature.scores,
        "metadata": dict(signature.metadata),
    }


def signature_from(stored: Entry) -> Signature:
    """The signature that ``signature_to`` wrote."""
    return Signature(
        inputs=_features(stored["inputs"]),
        outputs=_features(stored["outputs"]),
        states=_features(stored["states"]),
        labels=stored["labels"].optional(_labels),
        predicted_label=stored["predicted_label"].optional(Entry.text),
        probabilities=stored["probabilities"].optional(Entry.text),
        scores=stored["scores"].optional(Entry.text),
        metadata={key: value.text() for key, value in stored["metadata"].table().items()},
    )


def _labels(stored: Entry) -> tuple[str, ...] | tuple[int, ...]:
    listed = stored.each()
    # a list holds labels of one kind: the first one says which
    if listed and isinstance(listed[0].value, int):
        return tuple(label.whole() for label in listed)
    return tuple(label.text() for label in listed)


def _feature_to(feature: Feature) -> dict[str, object]:
    stored = dict(vars(feature))
    stored["image"] = None if feature.image is None else dict(vars(feature.image))
    stored["ranges"] = [[r.low, r.high] for r in feature.ranges]
    return stored


def _features(stored: Entry) -> tuple[Feature, ...]:
    found = tuple(_feature_from(f) for f in stored.each())
    # signatures are looked up by name
    names = [f.name for f in found]
    if len(set(names)) != len(names):
        raise stored.refuse("each name once", ", ".join(names))
    return found


def _feature_from(stored: Entry) -> Feature:
    read = {
        "name": stored["name"].text(),
        "kind": stored["kind"].one_of(get_args(Kind)),
        "dtype": stored["dtype"].optional(_dtype),
        "shape": stored["shape"].optional(_shape),
        "image": stored["image"].optional(_image),
        "optional": stored["optional"].flag(),
        "default": stored["default"].optional(lambda e: e.number(finite=False)),
        "enumerated": _each(stored["enumerated"], lambda e: _each(e, _length)),
        "ranges": _each(stored["ranges"], _range),
        "description": stored["description"].text(),
    }
    # what a feature has learnt to say since the first version of the format is a text, and may be missing
    later = {f.name for f in fields(Feature)} - set(read)
    for name in later & set(stored.table()):
        read[name] = stored[name].text()
    return Feature(**read)


def _dtype(stored: Entry) -> str:
    """A name that NumPy gives to a dtype, or "str"."""
    import ml_dtypes

    name = stored.text()
    try:
        # NumPy takes aliases too ("double", "<f4"): one dtype has one name here
        known = name == "str" or hasattr(ml_dtypes, name) or np.dtype(name).name == name
    except (TypeError, ValueError, SyntaxError):
        known = False
    if not known:
        raise stored.refuse("the name of a dtype", repr(name[:40]))
    return name


def _length(stored: Entry) -> int:
    return stored.whole(-1, _LONGEST)


def _shape(stored: Entry) -> tuple[Dimension, ...]:
    return _each(stored, lambda e: e.optional(lambda d: d.text() if isinstance(d.value, str) else _length(d)))


def _image(stored: Entry) -> ImageLayout:
    width, height = (stored[side].whole(1, 2**24) for side in ("width", "height"))
    return ImageLayout(width, height, stored["colour"].one_of(get_args(Colour)))


def _range(stored: Entry) -> ShapeRange:
    low, high = stored.each(2)
    return ShapeRange(_length(low), high.optional(_length))


def _each(stored: Entry, read: Callable[[Entry], _T]) -> tuple[_T, ...]:
    return tuple(read(entry) for entry in stored.each())


def feeding_from(stored: Entry, base: Feeding | None = None) -> Feeding:
    """A feeding whose fields were written as JSON or TOML; what is not said is as in ``base``."""
    readers: Mapping[str, Callable[[Entry], object]] = {
        "size": lambda e: tuple(n.whole(1, 2**24) for n in e.each(2)),
        "resize": lambda e: e.one_of(("squash", "crop")),
        "resize_to": lambda e: e.optional(lambda n: n.whole(1, 2**24)),
        "interpolation": lambda e: e.one_of(("nearest", "bilinear", "bicubic", "lanczos")),
        "colour": lambda e: e.one_of(get_args(Colour)),
        "scale": Entry.number,
        "mean": lambda e: _each(e, Entry.number),
        # divided by
        "std": lambda e: _each(e, _not_zero),
        "layout": lambda e: e.one_of(("NCHW", "NHWC")),
    }
    table = stored.table()
    unknown = sorted(set(table) - set(readers))
    if unknown:
        raise stored.refuse(", ".join(readers), f"unknown {', '.join(unknown)}")
    read = {**vars(base or Feeding()), **{name: readers[name](entry) for name, entry in table.items()}}
    for name, values in (("mean", read["mean"]), ("std", read["std"])):
        channels = 3 if read["colour"] in ("RGB", "BGR") else 1
        if len(values) not in (1, channels):
            raise stored.refuse(
                f"one {name}, or {channels}, one a channel of {read['colour']}", f"{len(values)} in {name}"
            )
    return Feeding(**read)


def _not_zero(stored: Entry) -> float:
    number = stored.number()
    if number == 0:
        raise stored.refuse("a number other than 0")
    return number


def graph_to(graph: Graph) -> dict[str, object]:
    """A graph as JSON holds it; of the attributes those that are plain and short, of the weights dtype and shape."""
    return {
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "nodes": [_node_to(node) for node in graph.nodes],
        "values": {v.name: [v.dtype, v.shape, v.constant] for v in graph.values.values()},
    }


def graph_from(stored: Entry) -> Graph:
    """The graph that ``graph_to`` wrote."""
    return Graph(
        stored["name"].text(),
        _each(stored["nodes"], _node_from),
        _each(stored["inputs"], Entry.text),
        _each(stored["outputs"], Entry.text),
        {name: _value(name, value) for name, value in stored["values"].table().items()},
    )


def _value(name: str, stored: Entry) -> Value:
    dtype, shape, constant = stored.each(3)
    return Value(name, dtype.optional(Entry.text), shape.optional(_shape), constant.flag())


def _node_to(node: Node) -> dict[str, object]:
    return {
        "name": node.name,
        "operator": node.operator,
        "inputs": node.inputs,
        "outputs": node.outputs,
        "domain": node.domain,
        "attributes": {k: v for k, v in node.attributes.items() if _is_plain(v)},
        "parameters": node.parameters,
        "source": node.source,
        "blocks": [graph_to(block) for block in node.blocks],
    }


def _node_from(stored: Entry) -> Node:
    return Node(
        name=stored["name"].text(),
        operator=stored["operator"].text(),
        inputs=_each(stored["inputs"], Entry.text),
        outputs=_each(stored["outputs"], Entry.text),
        domain=stored["domain"].text(),
        attributes={name: _attribute(value) for name, value in stored["attributes"].table().items()},
        parameters={name: _parameter(value) for name, value in stored["parameters"].table().items()},
        source=stored["source"].optional(Entry.text),
        blocks=_each(stored["blocks"], graph_from),
    )


def _attribute(stored: Entry) -> object:
    value = tuple(stored.value) if isinstance(stored.value, list) else stored.value
    if not _is_plain(value):
        raise stored.refuse("a number, a text, or a short list of them")
    return value


def _parameter(stored: Entry) -> tuple[str, tuple[int, ...]]:
    dtype, shape = stored.each(2)
    return dtype.text(), _each(shape, lambda e: e.whole(0, _LONGEST))


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        # strides, pads and the like; longer ones are weights, of which a header needs no copy
        return len(value) <= 16 and all(isinstance(v, int | float | str) for v in value)
    return value is None or isinstance(value, int | float | str)
