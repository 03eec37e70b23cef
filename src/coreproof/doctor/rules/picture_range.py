"""picture-range: a picture output whose values lie in 0 to 1 (or -1 to 1): Core ML shows 0 to 255, so it comes out black."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coreproof.conversion.operators import canonical_op, error_class
from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.feeding.drawn import random_feeds
from coreproof.model.features import Feature
from coreproof.model.graph import Graph, Node
from coreproof.runtime.open import session

_SEEDS = (1, 2)
_SLACK = 1e-3
"""How far beyond an end rounding may bring a value."""
_VISIBLE = 0.05
"""The brightest value below which nothing is said: a network without training makes next to nothing, of any range."""
_ENDS = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "sigmoidhard": (0.0, 1.0), "tanh": (-1.0, 1.0)}
"""What operators are bounded by (by ``canonical_op``); NeuralNetwork names them among an activation's attributes."""
_NEARLY, _MOST = 0.1, 0.9
"""A trained mask has so many of its values so near to 0 or 1."""
_INDICES = frozenset({"argmax", "argmin", "reduceargmax", "reduceargmin"})
"""What makes the index of a class, by ``canonical_op``."""
_WALKED = 8
"""Layers that are walked back from an output: moves, resizing, a cast."""


def applies(case: Case) -> bool:
    return case.evidence.runs


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after::

    sigmoid -> picture output                 0..1 of 255: all black
    sigmoid -> mul 255 -> picture output
    """
    pictures = [f for f in case.model.signature.outputs if f.image is not None and f.image.colour != "GRAY_FLOAT16"]
    for feature, (low, high), mask in _ranges(case, pictures):
        bound = _bound(case.graph, feature.name)
        # layers that cannot make more tell for sure; else what was seen, if it lies within 0 to 1
        if bound is None and not (low >= -_SLACK and _VISIBLE < high <= 1 + _SLACK):
            continue
        ends = (0, 1) if (bound or (0.0, 1.0))[0] >= 0 else (-1, 1)
        if _is_class_map(case.graph, feature.name) or (
            mask and feature.image is not None and feature.image.channels == 1
        ):
            yield _of_yes_and_no(case, feature.name)
            continue
        steps = brightened(case, feature.name, ends[0] < 0)
        commands = " ".join(f"--do '{_command(step)}'" for step in steps)
        yield Hypothesis(
            layer=case.graph.layer_of(feature.name),
            evidence=(
                f"the picture output {feature.name!r} has values from {low:.3g} to {high:.3g}"
                f"{'' if bound is None else f', and its layers make none beyond {ends[0]} to {ends[1]}'}; "
                f"Core ML makes a pixel of 0 to 255, so that all of it is black"
            ),
            cause="PyTorch's pictures are 0 to 1 or -1 to 1, and an image output of Core ML has no scale of its own",
            needs=f"bring it to 0 to 255 in front of the output: coreproof edit MODEL OUT {commands}",
            weight=45,
        )


def _of_yes_and_no(case: Case, name: str) -> Hypothesis:
    """What is said of a mask, or of a map of classes of which only 0 and 1 were seen: black to the eye, and maybe meant."""
    return Hypothesis(
        layer=case.graph.layer_of(name),
        evidence=f"the picture output {name!r} is a mask or a map of classes: it was seen to hold 0 and 1 of 255",
        cause="yes and no, or the index of a class, are written as the brightness of a pixel",
        needs="no repair: an app that reads the pixels as classes is right, and whoever looks at the picture sees black",
        weight=15,
        advice=True,
    )


def _ranges(case: Case, pictures: list[Feature]) -> Iterator[tuple[Feature, tuple[float, float], bool]]:
    """The least and the largest value of each over what was fed and drawn, and whether most are 0 or 1, as in a trained mask.

    Nothing is told of constant and infinite ones.
    """
    if not pictures:
        return
    fed = [
        *case.evidence.own_feeds,
        *(random_feeds(case.evidence.model, case.evidence.model, seed)[0] for seed in _SEEDS),
    ]
    names = [f.name for f in pictures]
    # as taps, which are numbers: a picture that is handed out has been cut to 0 to 255 already
    try:
        with session(case.evidence.model) as running:
            taps = [name for name in names if name in running.tappable]
            made = [running.run(sample, taps) for sample in fed]
    except CoreproofError:
        return
    for feature in pictures:
        if feature.name not in taps:
            continue
        values = np.concatenate([np.asarray(m[feature.name], np.float64).reshape(-1) for m in made])
        # an output that is one number throughout says nothing of its range
        if values.size and np.isfinite(values).all() and np.ptp(values) > 0:
            near = float(np.mean(np.abs(values - np.rint(values)) < _NEARLY)) > _MOST
            yield feature, (float(values.min()), float(values.max())), near


def _bound(graph: Graph, name: str) -> tuple[float, float] | None:
    """The ends that the operator behind an output cannot leave."""
    for node in _behind(graph, name):
        for operator in (node.operator, *node.attributes):
            if (ends := _ENDS.get(canonical_op(operator))) is not None:
                return ends
    return None


def _is_class_map(graph: Graph, name: str) -> bool:
    return any(canonical_op(node.operator) in _INDICES for node in _behind(graph, name))


def _behind(graph: Graph, name: str) -> Iterator[Node]:
    """The nodes that make a value, from the last one back to the first that does more than move or average."""
    for _ in range(_WALKED):
        node = graph.producer(name)
        if node is None:
            return
        yield node
        # these carry errors on as a move does, and change the range
        called = canonical_op(node.operator)
        moves = error_class(node.operator) == "move" and called not in ("neg", "clip", "clamp")
        fed = graph.data(node)
        if len(fed) != 1 or not (moves or called in ("cast", "resizebilinear", "upsamplebilinear")):
            return
        name = fed[0]


def brightened(case: Case, output: str, signed: bool) -> list[Edit]:
    """The edits that bring an output from 0..1 (``signed``: from -1..1) to 0..255."""
    factor, shift = (127.5, 127.5) if signed else (255.0, 0.0)
    place = {"after": output}
    if case.model.is_network:
        linear = {"alpha": factor, "beta": shift}
        return [Edit("insert", {"operator": "activation", "name": "brightened", **place, "linear": linear})]
    multiply, add, operand = ("Mul", "Add", "B") if case.model.is_onnx else ("mul", "add", "y")
    steps = [Edit("insert", {"operator": multiply, "name": "brightened", **place, operand: factor})]
    if shift:
        steps.append(Edit("insert", {"operator": add, "name": "shifted", **place, operand: shift}))
    return steps


def _command(step: Edit) -> str:
    """The edit as ``--do`` takes it."""
    known = ("operator", "name", "after")
    words = [str(step.arguments[key]) for key in known]
    rest = [f"{key}={_toml(value)}" for key, value in step.arguments.items() if key not in known]
    return " ".join([step.verb, *words, *rest])


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}={number}" for key, number in value.items()) + "}"
    return str(value)
