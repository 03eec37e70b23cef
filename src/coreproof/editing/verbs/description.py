"""Verbs on what a model says about itself: scores, preprocessing, version, batch, declared shapes; and constants."""

from __future__ import annotations

from coreproof.editing.editor import Editor, NewLayer
from coreproof.editing.verbs.registry import verb
from coreproof.errors import EditError
from coreproof.model.coreml.model import NEWEST_SPECIFICATION, CoreMLModel


@verb
def scores(editor: Editor, value: str) -> None:
    """Makes a NeuralNetwork classifier take the scores of its labels from this value."""
    model = _network(editor)
    if model.kind != "neuralNetworkClassifier":
        raise EditError("the model is no classifier", where=model.where, expected="a classifier", found=model.kind)
    editor.require_value(value)
    model.spec.neuralNetworkClassifier.labelProbabilityLayerName = value


@verb
def preprocess(editor: Editor, input: str, old: str) -> None:
    """Gives the preprocessing that is stored for the input ``old`` to ``input``."""
    model = _network(editor)
    inputs = [f.name for f in model.signature.inputs]
    steps = [s for s in model.network.preprocessing if s.featureName == old]
    if input not in inputs or not steps:
        raise EditError(
            "there is nothing to move",
            where=model.where,
            expected=f"an input ({', '.join(inputs)}) and preprocessing for it",
            found=f"{input!r}, and {len(steps)} steps for {old!r}",
        )
    for step in steps:
        step.featureName = input


@verb
def respecify(editor: Editor, version: int) -> None:
    """Declares another specification version of a NeuralNetwork: which systems will read it."""
    model = _network(editor)
    if not 1 <= version <= NEWEST_SPECIFICATION:
        raise EditError("there is no such version", expected=f"1 to {NEWEST_SPECIFICATION}", found=version)
    model.spec.specificationVersion = version  # a view of the editor's own copy, so that the edit takes


@verb
def declare(editor: Editor, output: str) -> None:
    """Declares an output anew, with the shape that its layers give it."""
    editor.interface.set_output(output, instead_of=output)


@verb
def produce(editor: Editor, output: str, value: str) -> None:
    """Gives a value the name of a declared output that no layer makes, where it is made and wherever it is read."""
    graph = editor.graph
    declared = [f.name for f in editor.model.signature.outputs]
    if output not in declared or graph.producer(output) is not None or output in graph.inputs:
        raise EditError(
            f"{output!r} is no output that lacks a layer",
            where=graph.name,
            expected=f"an output ({', '.join(declared)}) that nothing makes",
            found=output,
        )
    if graph.producer(value) is None or value in declared:
        raise EditError(
            f"{value!r} cannot become the output {output!r}",
            where=graph.name,
            expected="a value that a layer makes, and no other output",
            found=value,
        )
    editor.name_output(value, output)


@verb
def copy(editor: Editor, input: str, new: str) -> None:
    """Declares a copy of an input, under the name ``new``, in the place of the input itself, which is declared as an output."""
    if input not in editor.graph.inputs or input not in [f.name for f in editor.model.signature.outputs]:
        raise EditError(
            f"{input!r} is not both an input and an output",
            where=editor.graph.name,
            expected="an input that is declared as an output",
            found=input,
        )
    operator, attributes = _COPY.get(editor.model.format, ("Identity", {}))
    editor.require_new_layer(new)
    editor.add(NewLayer(operator, new, [input], [editor.require_free(new)], attributes), None)
    editor.interface.set_output(new, instead_of=input)


_COPY: dict[str, tuple[str, dict[str, object]]] = {
    "mlprogram": ("identity", {}),
    "neuralnetwork": ("activation", {"linear": {"alpha": 1.0}}),
}
"""The operator of each format that hands on what it reads; NeuralNetwork's own ``copy`` came later."""


@verb
def batch(editor: Editor, input: str, length: int = 1) -> None:
    """Gives an input another batch: the first of its dimensions."""
    feature = next((f for f in editor.model.signature.inputs if f.name == input), None)
    if feature is None or not feature.shape or feature.dtype is None:
        raise EditError(
            f"there is no input {input!r} with a shape",
            expected=[f.name for f in editor.model.signature.inputs],
            found=input,
        )
    rest = [int(n) for n in feature.shape[1:] if isinstance(n, int)]
    editor.interface.set_input(input, [length, *rest], feature.dtype)


@verb
def constant(editor: Editor, name: str, operator: str, **attributes: object) -> None:
    """Puts a constant layer (``operator``, in the format's own words) of that name in front."""
    editor.require_new_layer(name)
    editor.add(NewLayer(operator, name, [], [name], attributes), None)


@verb
def divide(editor: Editor, value: str, layer: str, new: str) -> None:
    """For a name that several layers write: calls it ``new`` where ``layer`` makes it and up to the next that does."""
    nodes = list(editor.graph.nodes)
    place = next((i for i, n in enumerate(nodes) if n.name == layer and value in n.outputs), None)
    if place is None:
        raise EditError(f"layer {layer!r} does not make {value!r}", where=editor.graph.name)
    editor.require_free(new)
    following = [i for i, n in enumerate(nodes) if i > place and value in n.outputs]
    # the next that writes the name may read it as well, as it was before
    last = following[0] if following else len(nodes) - 1
    readers = [n for n in nodes[place + 1 : last + 1] if value in n.inputs]
    editor.set_outputs(layer, [new if n == value else n for n in nodes[place].outputs])
    editor.redirect(value, new, readers)
    if not following and value in editor.graph.outputs:
        editor.interface.set_output(new, instead_of=value)


def _network(editor: Editor) -> CoreMLModel:
    model = editor.model
    if not isinstance(model, CoreMLModel) or not model.is_network:
        raise EditError(
            "this verb is for NeuralNetwork models", where=model.name, expected="neuralnetwork", found=model.format
        )
    return model
