"""Names: what a model reads, writes and declares, held against each other."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.conversion.operators import MIL
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Graph, Node
from coreproof.validation.problem import Problem

LATER_KINDS = ("dictionary", "string", "int64")
"""Kinds of outputs that a classifier makes of its scores; no layer does."""


def names(model: Model) -> list[Problem]:
    """Every name that nothing makes, or that two layers make."""
    graph = model.graph
    found = [*_block(graph, {*graph.inputs, *_stored(graph)}, _all_made(graph), model.format), *_outputs(model)]
    if isinstance(model, CoreMLModel) and model.is_network:
        found += [*_preprocessing(model), *_score_blob(model)]
    return found


def _stored(graph: Graph) -> set[str]:
    """The constants that no node makes: a compressed weight is a constant too, and its node makes it."""
    return {name for name, value in graph.values.items() if value.constant and name not in graph.made}


def _block(graph: Graph, made: set[str], ever: set[str], form: str) -> Iterator[Problem]:
    """The layers of one graph in order; ``made`` grows with what they make, ``ever`` is made somewhere in the model."""
    writers: dict[str, str] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            if not name or name in made or graph.is_constant(name):
                continue
            if name not in ever:
                yield Problem(
                    "dangling-input",
                    node.name,
                    f"{name!r} to be an input of the model or made by an earlier layer",
                    "nothing that makes it",
                )
            elif form != "onnx" or name in node.outputs:
                # ONNX Runtime sorts the nodes of a graph itself; Core ML runs its layers as they stand
                yield Problem(
                    "used-before-made",
                    node.name,
                    f"{name!r} to be made by an earlier layer",
                    f"it is made by {graph.layer_of(name) or '?'!r}, later",
                )
        if node.blocks:
            yield from _nested(node, made, ever, form)
        for name in node.outputs:
            # a network's copy layer may write a blob anew: so a loop carries values from turn to turn
            if name and name in made and not (form == "neuralnetwork" and node.operator == "copy"):
                first = writers.get(name)
                yield Problem(
                    "duplicate-output",
                    node.name,
                    f"a name of its own for {name!r}",
                    f"layer {first!r} makes it already" if first is not None else "an input or constant has that name",
                )
            made.add(name)
            writers.setdefault(name, node.name)


def _nested(node: Node, made: set[str], ever: set[str], form: str) -> Iterator[Problem]:
    if form == "neuralnetwork":
        # branches and loops share the names of the network around them, and a loop's body runs more than once
        inside = {name for block in node.blocks for name in _all_made(block)}
        made |= inside
        for block in node.blocks:
            for problem in _block(block, made | inside, ever, form):
                if problem.kind != "duplicate-output":
                    yield problem
        return
    for block in node.blocks:
        inner = {*made, *block.inputs, *_stored(block)}
        yield from _block(block, inner, ever, form)


def _all_made(graph: Graph) -> set[str]:
    inner = (_all_made(block) for node in graph.nodes for block in node.blocks)
    return {*graph.made, *_stored(graph)}.union(*inner)


def _outputs(model: Model) -> Iterator[Problem]:
    made = _all_made(model.graph)
    if not model.signature.outputs and not model.signature.states:
        yield Problem("missing-output", None, "at least one output", "a model that declares none")
    for name in wanted_outputs(model):
        if name in model.graph.inputs and isinstance(model, CoreMLModel):
            yield Problem(
                "output-is-input",
                None,
                f"a layer that makes the output {name!r}, and a name of its own for it",
                f"{name!r} is an input",
            )
        if name not in made:
            last = [o for node in model.graph.nodes[-3:] for o in node.outputs]
            yield Problem(
                "missing-output",
                None,
                f"a layer that makes the output {name!r}",
                f"the last values are {', '.join(last)}",
            )


def wanted_outputs(model: Model) -> list[str]:
    """The outputs that layers have to make: all but the label and the probabilities that a classifier derives."""
    signature = model.signature
    if not model.is_network or signature.labels is None:
        return [f.name for f in signature.outputs]
    derived = {signature.predicted_label, signature.probabilities}
    return [f.name for f in signature.outputs if f.name not in derived and f.kind not in LATER_KINDS]


def score_blob(model: CoreMLModel) -> str | None:
    """The blob that a NeuralNetwork classifier takes its scores from; None for other models.

    Where none is named it is the output of the last layer (NeuralNetworkClassifier.labelProbabilityLayerName).
    """
    if model.kind != "neuralNetworkClassifier" or not model.network.layers:
        return None
    named = str(model.spec.neuralNetworkClassifier.labelProbabilityLayerName)
    return named or str(model.network.layers[-1].output[0])


def _preprocessing(model: CoreMLModel) -> Iterator[Problem]:
    inputs = [f.name for f in model.spec.description.input]
    for step in model.network.preprocessing:
        if step.featureName and step.featureName not in inputs:
            yield Problem(
                "stale-preprocessing",
                None,
                f"preprocessing for an input ({', '.join(inputs)})",
                f"preprocessing for {step.featureName!r}, which is none",
                fatal=False,
            )


def _score_blob(model: CoreMLModel) -> Iterator[Problem]:
    blob = score_blob(model)
    if blob is not None and blob not in _all_made(model.graph):
        yield Problem(
            "classifier-blob",
            blob,
            "labelProbabilityLayerName to name a blob",
            f"{blob!r}, which no layer makes",
        )


def dead_layers(model: Model) -> Iterator[Problem]:
    """Layers from which no way leads to an output. They cost time and change nothing."""
    graph = model.graph
    wanted = {*graph.outputs, *wanted_outputs(model)}
    if not wanted:  # where nothing is given at all, no layer leads anywhere, and none is to blame
        return
    if isinstance(model, CoreMLModel) and model.is_network:
        wanted |= {score_blob(model) or "", model.signature.probabilities or ""}
    # a layer that makes nothing is there for what it does: it writes a state, or branches into layers that make something
    active = [node for node in graph.nodes if not node.outputs or has_effects(node)]
    wanted.update(name for node in active for name in graph.reads(node))
    alive = {node.name for node in (*active, *graph.between((), wanted))}
    for node in graph.nodes:
        if node.name not in alive and any(node.inputs):
            yield Problem(
                "dead-layer",
                node.name,
                "a way from every layer to an output",
                f"no way from {', '.join(node.outputs)}",
                fatal=False,
            )


def has_effects(node: Node) -> bool:
    """Whether a layer does something besides making its outputs: writing a state."""
    return MIL.traits(node.operator).get("effects", False)
