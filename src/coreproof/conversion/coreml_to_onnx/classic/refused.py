"""Model kinds that are computed by Apple's frameworks alone: refused by name, with the reason."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.errors import UnsupportedModelError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats import classic

_LANGUAGE = "what it learned is stored in a form of Apple's Natural Language framework that is not published"
REASONS = {
    "visionFeaturePrint": "the network that makes the features is part of Apple's Vision framework, and not in the file",
    "audioFeaturePrint": "the network that makes the features is part of Apple's Sound Analysis framework, and not in the file",
    "textClassifier": _LANGUAGE,
    "wordTagger": _LANGUAGE,
    "gazetteer": _LANGUAGE,
    "wordEmbedding": _LANGUAGE,
    "bayesianProbitRegressor": "the steepness of its link function, and how it samples, are not in the file",
    "serializedModel": "it is a message of a type that Apple keeps private",
}
"""Model kind -> why nothing but Apple's frameworks computes it."""


def refused_stages(model: CoreMLModel, place: str = "") -> Iterator[tuple[str, str]]:
    """The kinds among a model and its stages, at any depth, that are refused, each with its place."""
    if model.kind in REASONS:
        yield model.kind, place or model.name
    for index, spec in enumerate(classic.nested(model.spec)):
        yield from refused_stages(model.with_spec(spec), f"{place}{', ' if place else ''}stage {index}")


def require_computed(model: CoreMLModel) -> None:
    """Raises UnsupportedModelError for a model of which only Apple's frameworks compute a part."""
    found = list(refused_stages(model))
    if not found:
        return
    kinds = dict.fromkeys(kind for kind, _ in found)
    raise UnsupportedModelError(
        f"only Apple's frameworks compute {' and '.join(kinds)}: "
        + "; ".join(dict.fromkeys(REASONS[k] for k in kinds)),
        where=model.where,
        found="; ".join(f"{place}: {kind}" for kind, place in found),
        fix='run it on a Mac with engine="coreml"'
        + (
            ", or take the pipeline apart (coreproof split) and feed the other stages"
            if len(model.graph.nodes) > 1
            else ""
        ),
    )
