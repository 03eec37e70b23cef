"""What Core ML models declare and Core AI programs do not: of each thing what becomes of it, and what an app does instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coreproof.model.base import Model
from coreproof.model.features import Signature

Kind = Literal["picture", "labels", "lengths", "optional", "estimator", "pipeline"]


@dataclass(frozen=True)
class LeftBehind:
    """One such thing: ``what`` is no longer there, of which ``features`` (none: of the whole model), and what ``to_do``."""

    kind: Kind
    what: str
    to_do: str
    features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{', '.join(self.features)}: {self.what}" if self.features else self.what

    def to_json(self) -> dict[str, object]:
        """The thing as JSON holds it."""
        return {"kind": self.kind, "features": list(self.features), "what": self.what, "to_do": self.to_do}


def left_behind(signature: Signature) -> tuple[LeftBehind, ...]:
    """What a source declares of its features and a Core AI program does not."""
    found = [
        LeftBehind(
            "picture",
            f"a picture to its source, and here the tensor of its pixels, {f.image.colour}, 0 to 255",
            f"let the app scale the picture to {f.image.width}x{f.image.height} and copy its pixels, "
            f"{f.image.colour}, channel by channel: Vision does not do it for Core AI",
            (f.name,),
        )
        for f in signature.inputs
        if f.image is not None
    ]
    if signature.labels:
        what = "its labels are not in the file: Core AI knows no classifiers"
        to_do = "keep the labels in the app, in the order of the scores, and look the largest one up"
        found.append(LeftBehind("labels", what, to_do))
    if free := tuple(f.name for f in signature.inputs if f.enumerated or any(r.low != r.high for r in f.ranges)):
        what = "which lengths are allowed is not in the file, a length is free or it is not"
        found.append(LeftBehind("lengths", what, "let the app refuse other lengths than the source declares", free))
    if optional := tuple(f.name for f in signature.inputs if f.optional):
        what = "may be left out of the source, and has to be fed here"
        found.append(LeftBehind("optional", what, "feed what stands for it: its default, or zeros", optional))
    return tuple(found)


def kind_left_behind(model: Model) -> tuple[LeftBehind, ...]:
    """What there is of a whole model that Core AI has no kind for: it becomes a program of tensor operations."""
    if model.is_pipeline:
        what = "a pipeline to Core ML, and here one program: Core AI knows no pipelines"
        return (LeftBehind("pipeline", what, "nothing, where no stage is to be replaced by itself"),)
    if model.is_coreml and not model.is_coreml_graph:
        what = (
            "an estimator of Core ML's own kind (tree, linear, nearest neighbours, ...), and here operations on tensors"
        )
        to_do = "stay with Core ML, where it is smaller and can be read, unless the app is to have one framework alone"
        return (LeftBehind("estimator", what, to_do),)
    return ()
