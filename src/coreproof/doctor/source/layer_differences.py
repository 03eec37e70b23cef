"""In what a stretch of layers at fault is other than the source, carried to the model's own format anew (the conversion)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from coreproof.conversion.registry import normalise_op_name
from coreproof.difference.settings import changed_settings, layer_arguments, set_edit, weight_name
from coreproof.difference.weight_change import weight_change
from coreproof.doctor.case import Case
from coreproof.editing.edit import Edit
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.layer_weights import layer_weights
from coreproof.model.numbers import relative_rms, rms
from coreproof.verification.rounded_weights import SAME
from coreproof.verification.row import Row

_ELEMENTWISE = ("mul", "add", "sub", "real_div", "scale", "bias", "Mul", "Add", "Sub", "Div", "cast")
_FOLLOWING = ("hasBias",)
"""Attributes that say only whether there is a weight, and follow when it is set or taken away."""


STORED = ("weight", "bias", "scale")
"""The kinds of arrays: what a layer multiplies by, what it adds, and the scale or zero point of quantised numbers."""


@dataclass(frozen=True)
class LayerDifference:
    """One thing in which a layer is other than the conversion's; ``edits`` make it alike.

    ``subject`` is the attribute or weight by its stored name; ``kind`` is one of ``STORED``, "attribute", "operator" or "layer".
    """

    node: Node
    kind: str
    subject: str
    words: str
    edits: tuple[Edit, ...]

    @property
    def layer(self) -> str:
        """The name of the layer."""
        return self.node.name


def differences(case: Case, conversion: Model, row: Row) -> list[LayerDifference]:
    """In what the layers of a row's stretch are other than the conversion's; empty where they cannot be compared."""
    converted = _stretch_of_conversion(case, conversion, row)
    layers = _behind_preprocessing(case, conversion, case.evidence.stretch(row)[0])
    return _aligned(case, conversion, layers, converted) if layers and converted else []


def _behind_preprocessing(case: Case, conversion: Model, layers: tuple[Node, ...]) -> tuple[Node, ...]:
    """The layers without those that make numbers of a picture, where the source is fed these numbers."""
    pictures = {f.name for f in case.model.signature.inputs if f.image is not None}
    if any(f.image is not None for f in conversion.signature.inputs) or _leading(
        conversion, set(conversion.graph.inputs), conversion.graph.nodes
    ):
        return layers
    leading = _leading(case.model, pictures, case.graph.nodes)
    return tuple(node for node in layers if node.name not in leading)


def _leading(model: Model, inputs: set[str], nodes: Sequence[Node]) -> set[str]:
    """The elementwise layers that read nothing but these inputs and constants."""
    reached, found = set(inputs), set()
    for node in nodes:
        read = {n for n in node.inputs if n in reached}
        others = [n for n in node.inputs if n not in reached and not _is_constant(model, n)]
        if node.operator in _ELEMENTWISE and read and not others:
            found.add(node.name)
            reached.update(node.outputs)
    return found


def _is_constant(model: Model, name: str) -> bool:
    value = model.graph.values.get(name)
    return not name or (model.graph.producer(name) is None and (value is None or value.constant))


def all_differences(case: Case, conversion: Model) -> list[LayerDifference]:
    """In what the whole model is other than its conversion: for a model that does not run, of which no stretch can be judged."""
    return _aligned(case, conversion, case.graph.nodes, conversion.graph.nodes)


def _aligned(case: Case, conversion: Model, layers: Sequence[Node], converted: Sequence[Node]) -> list[LayerDifference]:
    found: list[LayerDifference] = []
    # by operator alone: in so short a stretch the order tells which is which, and names are the converter's own
    matcher = SequenceMatcher(None, [n.operator for n in layers], [n.operator for n in converted], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        pairs = list(zip(layers[i1:i2], converted[j1:j2], strict=False))
        if tag == "equal":
            for own, other in pairs:
                found.extend(_of_layer(case, conversion, own, other))
        elif tag == "delete":
            found.extend(_surplus(node) for node in layers[i1:i2])
        # as many of other kinds: one stands in the place of the other; else nothing says which belong together
        elif tag == "replace" and i2 - i1 == j2 - j1:
            found.extend(_replaced(conversion, own, other) for own, other in pairs)
        # behind the layer before; without one there is no place to name
        elif tag == "insert" and i1:
            found.append(_missing(conversion, layers[i1 - 1], converted[j1:j2]))
    return found


def _stretch_of_conversion(case: Case, conversion: Model, row: Row) -> tuple[Node, ...]:
    """The conversion's layers that make what the row's reference is, from what the row's stretch starts from."""
    origin: Mapping[str, str] = getattr(conversion, "provenance", None) or {}
    named = {n: origin.get(n, n) for node in conversion.graph.nodes for n in node.outputs}
    # the last of several: what came of the value when all was done to it
    ends = [n for n, source in named.items() if source == row.reference]
    end = ends[-1] if ends else _output_like(conversion, case, row)
    if end is None:
        return ()
    assert case.evidence.verification is not None
    read = {name for node in case.evidence.stretch(row)[0] for name in node.inputs}
    starts = {r.reference for r in case.evidence.verification.rows if r.candidate in read and r is not row}
    good = {n for n, source in named.items() if source in starts and n != end} | set(conversion.graph.inputs)
    return conversion.graph.between(good, [end])


def _output_like(conversion: Model, case: Case, row: Row) -> str | None:
    """The conversion's output at the place that the row's reference has among the source's."""
    graph = case.evidence.source_graph
    if graph is None or row.reference not in graph.outputs:
        return None
    place = graph.outputs.index(row.reference)
    return conversion.graph.outputs[place] if place < len(conversion.graph.outputs) else None


def _of_layer(case: Case, conversion: Model, own: Node, other: Node) -> Iterator[LayerDifference]:
    apart = {*_FOLLOWING, *own.parameters, *other.parameters}
    for setting in changed_settings(own, other, _near, but=apart):
        words = f"{setting.name} is {_say(setting.before)}, and {_say(setting.after)} in the source"
        edits = (set_edit(own.name, setting.name, setting.after),)
        yield LayerDifference(own, "attribute", setting.name, words, edits)
    weights, wanted = case.weights(own.name), layer_weights(conversion, other.name)
    if case.model.is_onnx:
        wanted = {weight_name(own, other, key): weight for key, weight in wanted.items()}
    for key in dict.fromkeys((*wanted, *weights)):
        if key not in wanted:
            # where the source computes it, or says it as an attribute, it is there all the same
            if key in own.parameters and key not in other.attributes and not _is_computed(own, other, key):
                words = f"{key} is not in the source"
                yield _of_weight(own, key, weights[key], None, words)
        elif key not in weights:
            if key not in own.attributes and key not in own.inputs:
                shape = "x".join(map(str, wanted[key].shape))
                words = f"{key} is missing, and {wanted[key].dtype}[{shape}] in the source"
                yield _of_weight(own, key, wanted[key], wanted[key], words)
        elif not same_weight(weights[key], wanted[key]):
            change = weight_change(key, wanted[key], weights[key])
            words = f"{key} is not the source's: {change.words or 'other numbers'}"
            yield _of_weight(own, key, wanted[key], wanted[key], words)


def _of_weight(own: Node, key: str, held: np.ndarray, value: np.ndarray | None, words: str) -> LayerDifference:
    """A weight that differs, of the kind of what one side holds, and the edit that gives it ``value``."""
    kind = kind_of_array(own, key, held)
    return LayerDifference(own, kind, key, words, (set_edit(own.name, key, value),))


def _is_computed(own: Node, other: Node, key: str) -> bool:
    """Whether the other node has a value that is computed at the place of this ONNX node's weight."""
    return key in own.inputs and own.inputs.index(key) < len(other.inputs) and bool(other.inputs[own.inputs.index(key)])


def kind_of_array(node: Node, key: str, array: np.ndarray) -> str:
    """Which of ``STORED`` an array is: by its role in the operator, and not by its shape alone."""
    role = _role(node, key).lower()
    if "quantize" in node.operator.lower() and role.endswith(("scale", "zero_point")):
        return "scale"
    if array.ndim > 1:
        return "weight"
    added = (
        "bias" in role
        or role in ("b", "c", "beta", "mean", "input_mean")
        or normalise_op_name(node.operator) in _ADDING
    )
    return "bias" if added and normalise_op_name(node.operator) not in _MULTIPLYING else "weight"


_ADDING, _MULTIPLYING = ("add", "sub", "bias"), ("mul", "div", "realdiv", "matmul", "pow")
"""Operators (``normalise_op_name``) whose constant operand is added, or multiplied by, whatever it is called."""


def _role(node: Node, key: str) -> str:
    """The name that a parameter has in the operator's definition."""
    if key not in node.inputs:
        return key
    import onnx

    if not onnx.defs.has(node.operator, node.domain):
        return key
    formal = onnx.defs.get_schema(node.operator, node.domain).inputs
    return str(formal[min(node.inputs.index(key), len(formal) - 1)].name) if formal else key


def _surplus(node: Node) -> LayerDifference:
    words = f"{node.operator} {node.name!r} is not in the source"
    return LayerDifference(node, "layer", "layer", words, (Edit("delete", {"layer": node.name}),))


def _replaced(conversion: Model, own: Node, other: Node) -> LayerDifference:
    words = f"it is a {own.operator}, and a {other.operator} in the source"
    arguments = {"layer": own.name, "operator": other.operator, **layer_arguments(conversion, other)}
    return LayerDifference(own, "operator", "operator", words, (Edit("replace", arguments),))


def _missing(conversion: Model, before: Node, lacking: Sequence[Node]) -> LayerDifference:
    """Layers of the source that the model lacks, put behind the layer before."""
    after, steps = before.outputs[0], []
    for node in lacking:
        place = {"operator": node.operator, "name": f"{node.name}_restored", "after": after}
        steps.append(Edit("insert", {**place, **layer_arguments(conversion, node)}))
        after = f"{node.name}_restored"
    words = f"{', '.join(n.operator for n in lacking)} behind {before.name!r} is missing"
    return LayerDifference(before, "layer", "layer", words, tuple(steps))


def _near(a: float, b: float) -> bool:
    """Whether two numbers are the same but for rounding to float16."""
    # float16 rounds by 2^-11 of a number, which is half of this
    return abs(a - b) <= 1e-3 * max(abs(a), abs(b))


def same_weight(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two weights are the same but for rounding; what are no numbers must be equal."""
    if a.shape != b.shape:
        return False
    # texts, truth values, and few-bit types that numpy does not compute with
    if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
        return bool(np.array_equal(a, b))
    return relative_rms(b, a, rms(b.astype(np.float64)) or 1.0) <= SAME


def _say(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_say, value))}]"
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split()) or "empty"
