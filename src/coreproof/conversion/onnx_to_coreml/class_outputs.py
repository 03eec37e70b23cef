"""Texts and dictionaries that an ONNX classifier ends with: in Core ML they are what a classifier gives by itself.

scikit-learn's exporters end a model with the name of the class, a text, and with a ZipMap: a dictionary from class to
probability. No multi-array holds either. A Core ML classifier makes both of the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from coreproof.conversion.onnx_to_coreml.ops.classes import ML
from coreproof.errors import ConversionError
from coreproof.model.onnx.constants import known_tensor

ESTIMATORS = frozenset(["LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"])
_HANDED_ON = frozenset(["Cast", "Identity", "Reshape"])
"""What exporters put behind the label, which stays what it is."""


@dataclass(frozen=True)
class Classes:
    """What a classifier says of the scores that a model makes."""

    labels: Sequence[str] | Sequence[int]
    name: str = "classLabel"
    """What the predicted label is called."""
    softmax: bool = False
    """Whether the scores pass through a softmax first."""
    shares: str = ""
    """What the dictionary of probabilities is called; after the label where nothing is said."""

    @property
    def is_text(self) -> bool:
        """Whether the classes have names, and not numbers."""
        return isinstance(self.labels[0], str)

    @property
    def probabilities(self) -> str:
        """What the dictionary is called."""
        return self.shares or f"{self.name}_probs"


@dataclass(frozen=True)
class NamedClasses:
    """An output that a stage behind the network makes of its output ``scores``: a label, or a dictionary of the scores by label.

    ``kept`` is the name of the scores where they are an output of the source as well.
    """

    output: str
    scores: str
    labels: Sequence[str] | Sequence[int]
    is_label: bool
    kept: str = ""


def is_classical(graph: ir.Graph) -> bool:
    """Whether it holds estimators or transforms of ai.onnx.ml, whose splits are compared with what is fed as it is."""
    return any(node.domain == ML for node in graph.all_nodes())


def class_names(node: ir.Node) -> tuple[str, ...]:
    """The texts among which a classifier's label is one; in Core ML it is their number, which is another value."""
    return tuple(map(str, node.attributes.get_strings("classlabels_strings", ()))) if node.op_type in ESTIMATORS else ()


def named_anew(classes: Classes | None, labels: Sequence[str] | Sequence[int], name: str, softmax: bool) -> Classes:
    """A classifier with labels of the user's; its outputs keep the names that they have in the source, where it is one."""
    if classes is None:
        return Classes(labels, name, softmax)
    kept = classes.name if name == Classes.name else name
    return Classes(labels, kept, softmax, classes.shares)


def take_classes(
    model: ir.Model, source: str, *, asked: bool = False, stages: bool = True
) -> tuple[Classes | None, tuple[NamedClasses, ...]]:
    """The classes that the graph ends with, whose scores become its first output; None where it has none.

    A Core ML classifier names the class of the highest score. Where the source decides in another way, by the votes of a support
    vector machine for one, or names several classes, its outputs become scores that stages behind the network name.
    ``asked``: the user names the classes, so that a number of a class beside its scores is a classifier's label too. Without
    ``stages`` the scores stay, of which the source takes the first largest: nothing behind the network names a class.
    Raises ConversionError where the labels are not known.
    """
    graph = model.graph
    zips = [value for value in graph.outputs if _made_by(value, "ZipMap") is not None]
    named = {value.name or "": found for value in graph.outputs if (found := _decision(value)) is not None}
    texts = [name for name, found in named.items() if found.is_text]
    if not zips and not texts:
        classes = _one_classifier(graph, zips, named, texts) if asked and len(named) == 1 else None
        if classes is not None:
            common.RemoveUnusedNodesPass()(model)
        return classes, ()
    # a Core ML classifier has one label and one dictionary
    if len(zips) <= 1 and len(texts) <= 1 and (classes := _one_classifier(graph, zips, named, texts)) is not None:
        common.RemoveUnusedNodesPass()(model)
        return classes, ()
    # a dictionary stands beside the label of a classifier, which may be a number
    staged = _staged(graph, zips, named if zips else {name: named[name] for name in texts}, source, stages)
    common.RemoveUnusedNodesPass()(model)
    return None, staged


def _one_classifier(
    graph: ir.Graph, zips: Sequence[ir.Value], named: Mapping[str, _Decision], texts: Sequence[str]
) -> Classes | None:
    """What a Core ML classifier gives by itself; None where it would name another class than the source."""
    label = texts[0] if texts else next(iter(named), None)
    decision = None if label is None else named[label]
    zipped = _made_by(zips[0], "ZipMap") if zips else None
    if zipped is not None:
        scores = zipped.inputs[0]
        labels = _zip_labels(zipped)
    else:
        scores = None if decision is None else _scores_beside(graph, decision)
        labels = () if decision is None else decision.labels
    if scores is None or not labels or not (decision is None or decision.names_the_best_of(scores)):
        return None
    # first, where whoever writes the classifier looks for them
    others = [v for v in graph.outputs if v.name != label and v not in zips and v is not scores]
    graph.outputs[:] = [scores, *others]
    return Classes(labels, label or "classLabel", shares=(zips[0].name or "") if zips else "")


def _staged(
    graph: ir.Graph, zips: Sequence[ir.Value], decided: Mapping[str, _Decision], source: str, stages: bool
) -> tuple[NamedClasses, ...]:
    """Ends the graph in scores where it ended in texts and dictionaries."""
    made: list[NamedClasses] = []
    ends: list[ir.Value] = []
    declared = {value.name for value in graph.outputs}
    for value in list(graph.outputs):
        name = value.name or ""
        if value in zips:
            zipped = _made_by(value, "ZipMap")
            assert zipped is not None
            scores, labels = zipped.inputs[0], _zip_labels(zipped)
        elif name in decided and decided[name].labels:
            labels = decided[name].labels
            scores = None if stages else _in_a_row(decided[name])
            scores = scores or _one_hot_scores(graph, decided[name], f"{name}_chosen")
        else:
            ends.append(value)
            continue
        if scores is None or not labels:
            raise ConversionError(
                "the classes of its output have no scores, or no labels",
                where=f"{source}, output {name!r}",
                expected="scores, and a label for each of them",
                found="scores without labels" if scores is not None else "labels without scores",
                fix="give the ZipMap its labels, or cut the model at its scores: coreproof edit, verb extract",
            )
        kept = (scores.name or "") if scores.name in declared else ""
        made.append(NamedClasses(name, scores.name or "", labels, is_label=value not in zips, kept=kept))
        ends.append(scores)
    graph.outputs[:] = list(dict.fromkeys(ends))
    return tuple(made)


def _in_a_row(decision: _Decision) -> ir.Value | None:
    """The scores of which a label is the first largest, where they are one row of them."""
    by = decision.by
    scores = None if by is None or by.op_type != "ArgMax" else by.inputs[0]
    if by is None or scores is None or scores.shape is None or by.attributes.get_int("select_last_index", 0) == 1:
        return None
    axis, rank = by.attributes.get_int("axis", 0), len(scores.shape)
    # axis -1 of any rank, and the only one there is
    return scores if axis in (-1, rank - 1) and scores.shape[-1] == len(decision.labels) else None


def _one_hot_scores(graph: ir.Graph, decision: _Decision, name: str) -> ir.Value:
    """A row of zeros with a 1 at the class that was chosen: scores that name it."""
    count = len(decision.labels)
    # of classes with names it is their place that is decided
    numbers = np.arange(count) if decision.is_text else np.array(decision.labels)
    tensors = {"numbers": numbers.astype(np.int64), "column": np.array([-1, 1], np.int64)}
    constants = {}
    for word, array in tensors.items():
        tensor = ir.tensor(array, name=f"{name}_{word}")
        constants[word] = ir.Value(
            name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
        )
        graph.register_initializer(constants[word])
    value = decision.number
    steps: tuple[tuple[str, list[ir.Value], dict[str, int]], ...] = (
        ("Cast", [], {"to": int(ir.DataType.INT64)}),
        ("Reshape", [constants["column"]], {}),
        ("Equal", [constants["numbers"]], {}),
        ("Cast", [], {"to": int(ir.DataType.FLOAT)}),
    )
    for operator, inputs, attributes in steps:
        node = ir.node(operator, [value, *inputs], attributes)
        node.outputs[0].name = f"{name}_{len(graph)}"
        graph.append(node)
        value = node.outputs[0]
    value.name, value.type, value.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape([None, count])
    return value


def _zip_labels(node: ir.Node) -> tuple[str, ...] | tuple[int, ...]:
    return _labels(node, "classlabels_strings") or _labels(node, "classlabels_int64s")


@dataclass(frozen=True)
class _Decision:
    """Where the label of an output comes from: its number among ``labels``, and the node that says it."""

    number: ir.Value
    labels: tuple[str, ...] | tuple[int, ...]
    by: ir.Node | None

    @property
    def is_text(self) -> bool:
        """Whether the label is a text, which no multi-array holds."""
        return bool(self.labels) and isinstance(self.labels[0], str)

    def names_the_best_of(self, scores: ir.Value) -> bool:
        """Whether it is sure to be the class of the highest of these scores."""
        root = _same_order(scores)
        if self.by is None:
            return False
        if self.by.op_type == "ArgMax":
            axis = self.by.attributes.get_int("axis", 0)
            # scores are [samples, classes]: their place along the second axis is the class
            return axis in (1, -1) and self.by.inputs[0] is not None and _same_order(self.by.inputs[0]) is root
        # of an estimator's two outputs the second holds the scores
        if root is not self.by.outputs[1]:
            return False
        how = self.by.attributes.get_string("post_transform", "NONE")
        if self.by.op_type == "LinearClassifier":
            count = len(self.by.attributes.get_floats("intercepts", ()))
            # of one row its sign decides, and with [1 - s, s] the half would
            return count > 1 or (count == 1 and how == "LOGISTIC")
        if self.by.op_type == "TreeEnsembleClassifier":
            spoken = set(self.by.attributes.get_ints("class_ids", ()))
            return len(self.labels) > 2 or len(spoken) > 1 or spoken == {0}
        return False


def _same_order(value: ir.Value) -> ir.Value:
    """The scores of which these are made without a change of their order in a row."""
    while True:
        node = value.producer()
        ordered = node is not None and (
            (node.domain == "" and node.op_type in ("Cast", "Identity", "Softmax", "LogSoftmax", "Sigmoid"))
            or (
                node.domain == ML
                and node.op_type == "Normalizer"
                # L1 and L2 divide by a size, which is positive; the largest may be negative, and turns the order around
                and node.attributes.get_string("norm", "MAX") != "MAX"
            )
        )
        if not ordered or node is None or node.inputs[0] is None:
            return value
        value = node.inputs[0]


def _decision(value: ir.Value) -> _Decision | None:
    """What decides the label that an output gives; None where it gives none."""
    at = _origin(value)
    node = at.producer()
    if node is None or (node.domain != ML and not _chooses_a_text(node)):
        return None
    if node.op_type in ESTIMATORS and at is node.outputs[0]:
        names = [name for name in node.attributes if name.startswith("classlabels_")]
        labels = next((found for name in names if (found := _labels(node, name))), ())
        return _Decision(at, labels, node)
    if (
        node.op_type in ("ArrayFeatureExtractor", "Gather")
        and node.inputs[0] is not None
        and node.inputs[1] is not None
    ):
        held = known_tensor(node.inputs[0])
        if held is not None and held.dtype == ir.DataType.STRING:
            number = node.inputs[1]
            by = _origin(number).producer()
            # ONNX stores texts as bytes
            texts = tuple(text.decode() if isinstance(text, bytes) else str(text) for text in held.numpy().reshape(-1))
            return _Decision(number, texts, by if by is not None and by.op_type == "ArgMax" else None)
    return None


def _chooses_a_text(node: ir.Node) -> bool:
    """Whether it is the standard's own way to look a label up in a list: what coreproof lowers a Core ML classifier to."""
    if node.domain != "" or node.op_type != "Gather" or node.inputs[0] is None or node.inputs[1] is None:
        return False
    held, chosen = known_tensor(node.inputs[0]), _origin(node.inputs[1]).producer()
    # of another number it is not sure that it counts from the first
    by_argmax = chosen is not None and chosen.op_type == "ArgMax"
    return by_argmax and held is not None and held.dtype == ir.DataType.STRING and len(held.shape) == 1


def _origin(value: ir.Value) -> ir.Value:
    node = value.producer()
    while node is not None and node.domain == "" and node.op_type in _HANDED_ON and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _made_by(value: ir.Value, operator: str) -> ir.Node | None:
    node = value.producer()
    return node if node is not None and node.domain == ML and node.op_type == operator else None


def _labels(node: ir.Node, name: str) -> tuple[str, ...] | tuple[int, ...]:
    if name.endswith("strings"):
        return tuple(map(str, node.attributes.get_strings(name, ())))
    return tuple(map(int, node.attributes.get_ints(name, ())))


def _scores_beside(graph: ir.Graph, decision: _Decision) -> ir.Value | None:
    """The output that holds a score a class, else the scores of the estimator itself."""
    fitting = [
        value
        for value in graph.outputs
        if value.dtype is not None
        and value.dtype.is_floating_point()
        and value.shape is not None
        and len(value.shape)
        and value.shape[-1] == len(decision.labels)
    ]
    # of several it is not known which are the probabilities
    if len(fitting) == 1:
        return fitting[0]
    by = decision.by
    return by.outputs[1] if by is not None and by.op_type in ESTIMATORS and len(by.outputs) > 1 else None
