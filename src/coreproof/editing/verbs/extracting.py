"""The verb extract: the sub-model between values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coreproof.editing.editor import Editor
from coreproof.editing.verbs.registry import verb
from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats import network as layered
from coreproof.model.graph import Graph, Node
from coreproof.validation.names import wanted_outputs

Types = Mapping[str, tuple[str, tuple[int, ...]]]


@verb
def extract(
    editor: Editor, inputs: Sequence[str] | str | None = None, outputs: Sequence[str] | str | None = None
) -> None:
    """Keeps what lies between values: layers that ``outputs`` need and ``inputs`` do not replace.

    Values are named by themselves or by the layer that makes them. None given: the model's own. An input of the model stays one
    where something still reads it. Preprocessing and a classifier's labels go with what they belonged to.
    """
    begin, end = _values(editor, inputs), _values(editor, outputs)
    if both := sorted(set(begin) & set(end)):
        raise EditError(f"{', '.join(both)} would be an input and an output", where=editor.graph.name)
    own = tuple(editor.graph.inputs)
    inner = [name for name in begin if name not in own]
    kept = editor.graph.between(begin, [name for name in end or _ends(editor) if name not in begin])
    _require_read(editor.graph, kept, begin)
    types = _types(editor, inner)
    if end:
        _declare(editor, end)
        kept = editor.graph.between(begin, end)
    names = {node.name for node in kept}
    editor.remove_all([node.name for node in editor.graph.nodes if node.name not in names])
    for name in inner:
        _make_free(editor, name)
        dtype, shape = types[name]
        editor.set_input(name, shape, dtype)
    read = {name for node in editor.graph.nodes for name in editor.graph.reads(node)}
    for name in own:
        if name not in read and name not in (end or editor.graph.outputs):
            editor.drop_input(name)
    editor.drop_unread_weights()


def _values(editor: Editor, names: Sequence[str] | str | None) -> list[str]:
    given = [names] if isinstance(names, str) else list(names or ())
    graph = editor.graph
    made = {*graph.inputs, *graph.values, *(o for node in graph.nodes for o in node.outputs)}
    return list(dict.fromkeys(name if name in made else editor.node(name).outputs[0] for name in given))


def _ends(editor: Editor) -> list[str]:
    """The values that the model's own outputs are made from."""
    model = editor.model
    if model.format != "neuralnetwork":
        return list(editor.graph.outputs)
    scores = model.signature.scores
    if model.signature.labels is not None and scores is None:
        scores = next((o for node in reversed(editor.graph.nodes) for o in node.outputs), None)
    return list(dict.fromkeys([*wanted_outputs(model), *([scores] if scores is not None else [])]))


def _require_read(graph: Graph, kept: Sequence[Node], begin: Sequence[str]) -> None:
    read = {name for node in kept for name in graph.reads(node)}
    idle = [name for name in begin if name not in read]
    if idle:
        raise EditError(
            f"nothing between reads {', '.join(map(repr, idle))}",
            where=graph.name,
            expected="inputs that lie before the outputs",
            fix="leave them out, or ask for outputs that are made from them",
        )


def _types(editor: Editor, names: Sequence[str]) -> Types:
    """dtype and shape of values, as an input declares them: from the graph where it says so, else from one run."""
    model = editor.model
    if isinstance(model, CoreMLModel) and model.format == "neuralnetwork":
        from coreproof.validation.validate import inspect

        blobs = inspect(model).shapes if names else {}
        known: dict[str, tuple[str, tuple[int, ...]]] = {
            name: ("float32", tuple(layered.feature_shape(model.spec, blobs[name]))) for name in names if name in blobs
        }
    else:
        declared = {name: value for name, value in editor.graph.values.items() if name in names}
        known = {
            name: (value.dtype, tuple(int(n) for n in value.shape if isinstance(n, int)))
            for name, value in declared.items()
            if value.dtype is not None and value.shape is not None and all(isinstance(n, int) for n in value.shape)
        }
    if all(name in known for name in names):
        return known
    measured = {**editor.infer(), **known}
    missing = [name for name in names if name not in measured]
    if missing:
        raise EditError(f"it is not known what {', '.join(missing)} looks like", where=model.name, expected="a tensor")
    return measured


def _declare(editor: Editor, end: Sequence[str]) -> None:
    """Makes ``end`` the outputs, in that order; a classifier of which the label is not asked for becomes a plain network."""
    labels = editor.model.signature.predicted_label
    if labels is not None and labels not in end:
        editor.unclassify()
    before = [feature.name for feature in editor.model.signature.outputs]
    for name in end:
        if name not in before:
            editor.set_output(name)
    for name in before:
        if name not in end:
            editor.drop_output(name)


def _make_free(editor: Editor, value: str) -> None:
    """A layer that is needed for another of its outputs makes this one under another name."""
    maker = editor.graph.producer(value)
    if maker is not None:
        editor.set_outputs(maker.name, [f"{value}_unread" if name == value else name for name in maker.outputs])
