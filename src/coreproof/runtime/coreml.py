"""Apple's own engine, through coremltools, on a Mac."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coreproof.errors import RunError
from coreproof.model.coreml.features import label_lists
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats.free_name import free_name
from coreproof.runtime.images import to_picture
from coreproof.runtime.session import Session, State, Values, read_inputs


class CoreMLSession(Session):
    """Runs the stored model with Core ML on the CPU, so that results can be compared with the other engines."""

    engine = "Core ML"
    model: CoreMLModel

    def __init__(self, model: CoreMLModel) -> None:
        import coremltools

        self.model = model
        of = model.signature
        self.signature = replace(of, scores=of.scores or of.probabilities)
        self._folder = TemporaryFolder()
        suffix = ".mlpackage" if model.folder is not None or model.is_program else ".mlmodel"
        run = with_distinct_labels(model)
        self._told = run.signature.labels or ()
        # Core ML compiles files alone: what was never saved is saved for it
        path = run.path or run.save(Path(self._folder.name) / f"model{suffix}")
        self._proxy = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)

    @property
    def tappable(self) -> frozenset[str]:
        """Nothing, save a classifier's scores, which its output holds by label."""
        scores = self.signature.scores
        return frozenset() if scores is None or self.signature.probabilities is None else frozenset((scores,))

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        self._refuse_state(state)
        if not self.tappable.issuperset(taps):
            raise RunError(
                "Core ML does not show inner values of a model",
                where=self.model.where,
                fix='verify with engine="auto", or cut the model at that value first',
            )
        fed = read_inputs(self.signature, inputs, self.model.where)
        for feature in self.signature.inputs:
            if feature.image is not None and feature.name in fed:
                picture = to_picture(np.asarray(fed[feature.name]), feature.image)
                # coremltools takes RGB, L and F
                fed[feature.name] = picture.convert("RGB") if picture.mode == "RGBA" else picture
        try:
            outputs = dict(self._proxy.predict(fed))
        except Exception as error:
            raise RunError("Core ML failed while running the model", where=self.model.where, found=str(error)) from None
        names = (self.signature.probabilities or "", self.signature.predicted_label or "")
        scores = scores_in_order(outputs.get(names[0]) or {}, self._told) if taps else None
        if self._told != (self.signature.labels or ()):
            own = dict(zip(self._told, self.signature.labels or (), strict=True))
            outputs[names[0]] = {own[told]: score for told, score in outputs[names[0]].items()}
            outputs[names[1]] = own[outputs[names[1]]]
        return outputs if scores is None else {**outputs, taps[0]: scores}

    def close(self) -> None:
        self._proxy = None
        self._folder.cleanup()


def scores_in_order(by_label: Mapping[object, float], labels: Sequence[object]) -> npt.NDArray[np.float32]:
    """A classifier's scores in class order, from its dictionary of labels. RunError where that lacks some."""
    missing = [label for label in labels if label not in by_label]
    if missing or len(set(labels)) != len(by_label):
        raise RunError(
            "Core ML's scores do not belong to the model's labels",
            expected=f"a score for each of {len(labels)} labels",
            found=f"{len(by_label)} scores, none for {', '.join(map(str, missing[:3])) or 'some'}",
        )
    return np.array([by_label[label] for label in labels], np.float32)


def with_distinct_labels(model: CoreMLModel) -> CoreMLModel:
    """The model, or where some of its labels are the same (ImageNet has two cranes), a copy in which they are told apart.

    Core ML gives scores by label only: classes that share one would lose all scores but one.
    """
    labels = model.signature.labels or ()
    if len(set(labels)) == len(labels) or not isinstance(labels[0], str):
        return model
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    seen: set[str] = set()
    for held in label_lists(spec):
        for index, label in enumerate(map(str, held)):
            if label in seen:  # neither the name of another class, nor of one that was told apart before
                held[index] = free_name(label, {*seen, *labels}, first=2, sign=" #")
            seen.add(str(held[index]))
    return model.with_spec(spec)
