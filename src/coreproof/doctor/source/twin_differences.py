"""In what a suspicious stretch of layers is other than its twin: the source carried to the model's own format anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.conversion.registry import normalise_op_name
from coreproof.difference.weight_change import weight_change
from coreproof.doctor.case import Case
from coreproof.editing.edit import Edit
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.layer_weights import layer_weights
from coreproof.verification.verify import Row

Array = npt.NDArray[Any]

SAME = 2e-3
"""Relative rms difference below which two weights are the same but for rounding to float16 and folding."""


_ELEMENTWISE = ("mul", "add", "sub", "real_div", "scale", "bias", "Mul", "Add", "Sub", "Div", "cast")
_FOLLOWING = ("hasBias",)
"""Attributes that say only whether there is a weight, and follow when it is set or taken away."""


STORED = ("weight", "bias", "scale")
"""The kinds of arrays: what a layer multiplies by, what it adds, and the scale or zero point of quantised numbers."""


@dataclass(frozen=True)
class Difference:
    """One thing in which a layer is other than its twin; ``edits`` make it alike.

    ``subject`` is the attribute or weight by its stored name; ``kind`` is one of ``STORED``, "attribute", "operator" or "layer".
    """

    layer: str
    operator: str
    kind: str
    subject: str
    words: str
    edits: tuple[Edit, ...]


def differences(case: Case, twin: Model, row: Row) -> list[Difference]:
    """In what the layers of a row's stretch are other than those of the twin; empty where the stretches cannot be compared."""
    theirs = _stretch_of_twin(case, twin, row)
    mine = _behind_preprocessing(case, twin, case.evidence.stretch(row)[0])
    return _aligned(case, twin, mine, theirs) if mine and theirs else []


def _behind_preprocessing(case: Case, twin: Model, mine: tuple[Node, ...]) -> tuple[Node, ...]:
    """The layers without those that make numbers of a picture, where the source is fed these numbers."""
    pictures = {f.name for f in case.model.signature.inputs if f.image is not None}
    if any(f.image is not None for f in twin.signature.inputs) or _leading(
        twin, set(twin.graph.inputs), twin.graph.nodes
    ):
        return mine
    leading = _leading(case.model, pictures, case.graph.nodes)
    return tuple(node for node in mine if node.name not in leading)


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


def all_differences(case: Case, twin: Model) -> list[Difference]:
    """In what the whole model is other than its twin: for a model that does not run, of which no stretch can be judged."""
    return _aligned(case, twin, case.graph.nodes, twin.graph.nodes)


def _aligned(case: Case, twin: Model, mine: Sequence[Node], theirs: Sequence[Node]) -> list[Difference]:
    found: list[Difference] = []
    matcher = SequenceMatcher(None, [n.operator for n in mine], [n.operator for n in theirs], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            for own, other in zip(mine[i1:i2], theirs[j1:j2], strict=True):
                found.extend(_of_layer(case, twin, own, other))
        elif tag == "delete":
            found.extend(_surplus(node) for node in mine[i1:i2])
        elif tag == "replace" and i2 - i1 == j2 - j1:
            found.extend(_replaced(twin, own, other) for own, other in zip(mine[i1:i2], theirs[j1:j2], strict=True))
        elif tag == "insert":
            found.extend(_missing(twin, mine, i1, theirs[j1:j2]))
    return found


def _stretch_of_twin(case: Case, twin: Model, row: Row) -> tuple[Node, ...]:
    """The twin's layers that make what the row's reference is, from what the row's stretch starts from."""
    origin: Mapping[str, str] = getattr(twin, "provenance", None) or {}
    named = {n: origin.get(n, n) for node in twin.graph.nodes for n in node.outputs}
    ends = [n for n, source in named.items() if source == row.reference]
    end = ends[-1] if ends else _output_like(twin, case, row)
    if end is None:
        return ()
    assert case.evidence.verification is not None
    read = {name for node in case.evidence.stretch(row)[0] for name in node.inputs}
    starts = {r.reference for r in case.evidence.verification.rows if r.candidate in read and r is not row}
    good = {n for n, source in named.items() if source in starts and n != end} | set(twin.graph.inputs)
    return twin.graph.between(good, [end])


def _output_like(twin: Model, case: Case, row: Row) -> str | None:
    """The twin's output at the place that the row's reference has among the source's."""
    graph = case.evidence.source_graph
    if graph is None or row.reference not in graph.outputs:
        return None
    place = graph.outputs.index(row.reference)
    return twin.graph.outputs[place] if place < len(twin.graph.outputs) else None


def _of_layer(case: Case, twin: Model, own: Node, other: Node) -> Iterator[Difference]:
    for key in dict.fromkeys((*other.attributes, *own.attributes)):
        if key in _FOLLOWING:
            continue
        a, b = own.attributes.get(key), other.attributes.get(key)
        if not _same_setting(a, b) and key not in own.parameters and key not in other.parameters:
            words = f"{key} is {_say(a)}, and {_say(b)} in the source"
            yield Difference(own.name, own.operator, "attribute", key, words, (_set(own, key, _plain(b)),))
    weights, right = case.weights(own.name), layer_weights(twin, other.name)
    if case.model.format == "onnx":
        right = {_name_at(own, other, key): weight for key, weight in right.items()}
    for key in dict.fromkeys((*right, *weights)):
        if key not in right:
            if key in own.parameters and key not in other.attributes and not _is_computed(own, other, key):
                words = f"{key} is not in the source"
                yield Difference(
                    own.name, own.operator, kind_of_array(own, key, weights[key]), key, words, (_set(own, key, None),)
                )
        elif key not in weights:
            if key not in own.attributes and key not in own.inputs:
                words = f"{key} is missing, and {_shape(right[key])} in the source"
                yield Difference(
                    own.name,
                    own.operator,
                    kind_of_array(own, key, right[key]),
                    key,
                    words,
                    (_set(own, key, right[key]),),
                )
        elif not same_weight(weights[key], right[key]):
            change = weight_change(key, right[key], weights[key])
            words = f"{key} is not the source's: {change.words or 'other numbers'}"
            yield Difference(
                own.name, own.operator, kind_of_array(own, key, right[key]), key, words, (_set(own, key, right[key]),)
            )


def _name_at(own: Node, other: Node, key: str) -> str:
    """What the weight that another ONNX node calls ``key`` is called here: initializers are known by their places only."""
    if key not in other.inputs:
        return key
    place = other.inputs.index(key)
    if place < len(own.inputs) and own.inputs[place]:
        return own.inputs[place]
    import onnx

    formal = onnx.defs.get_schema(own.operator, own.domain).inputs
    return formal[place].name if place < len(formal) else key


def _is_computed(own: Node, other: Node, key: str) -> bool:
    """Whether the other node has a value that is computed at the place of this ONNX node's weight."""
    return key in own.inputs and own.inputs.index(key) < len(other.inputs) and bool(other.inputs[own.inputs.index(key)])


def kind_of_array(node: Node, key: str, array: Array) -> str:
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


def _set(node: Node, key: str, value: Any) -> Edit:
    return Edit("set", {"layer": node.name, "attribute": key, "value": value})


def _surplus(node: Node) -> Difference:
    words = f"{node.operator} {node.name!r} is not in the source"
    return Difference(node.name, node.operator, "layer", "layer", words, (Edit("delete", {"layer": node.name}),))


def _replaced(twin: Model, own: Node, other: Node) -> Difference:
    words = f"it is a {own.operator}, and a {other.operator} in the source"
    arguments = {"layer": own.name, "operator": other.operator, **_arguments(twin, other)}
    return Difference(own.name, own.operator, "operator", "operator", words, (Edit("replace", arguments),))


def _missing(twin: Model, mine: Sequence[Node], place: int, lacking: Sequence[Node]) -> Iterator[Difference]:
    """Layers of the source that the model lacks, put behind the layer before."""
    if place == 0 or not lacking:
        return
    after = mine[place - 1].outputs[0]
    steps = []
    for node in lacking:
        name = f"{node.name}_restored"
        steps.append(
            Edit("insert", {"operator": node.operator, "name": name, "after": after, **_arguments(twin, node)})
        )
        after = name
    words = f"{', '.join(n.operator for n in lacking)} behind {mine[place - 1].name!r} is missing"
    yield Difference(mine[place - 1].name, mine[place - 1].operator, "layer", "layer", words, tuple(steps))


def _arguments(twin: Model, node: Node) -> dict[str, Any]:
    """The settings and weights of a layer as an edit gives them to another."""
    return {**{k: _plain(v) for k, v in node.attributes.items() if v is not None}, **layer_weights(twin, node.name)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _same_setting(a: Any, b: Any) -> bool:
    if isinstance(a, float | int) and isinstance(b, float | int) and not isinstance(a, bool):
        return abs(a - b) <= 1e-3 * max(abs(a), abs(b))
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same_setting(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def same_weight(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
        return bool(np.array_equal(a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    scale = float(np.sqrt(np.mean(y * y))) or 1.0
    return bool(np.sqrt(np.mean((x - y) ** 2)) <= SAME * scale)


def _say(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_say, value))}]"
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split()) or "empty"


def _shape(array: Array) -> str:
    return f"{array.dtype}[{'x'.join(map(str, array.shape))}]"
