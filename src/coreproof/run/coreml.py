"""Apple's own engine, through coremltools, on a Mac."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.errors import RunError
from coreproof.model.coreml import CoreMLModel
from coreproof.model.features import Signature
from coreproof.run.images import to_picture
from coreproof.run.session import Session, read_inputs


class CoreMLSession(Session):
    """Runs the stored model with Core ML on the CPU, so that results can be compared with the other engines."""

    engine = "Core ML"

    def __init__(self, model: CoreMLModel) -> None:
        import coremltools

        self.model = model
        of = model.signature
        self.signature = replace(of, scores=of.scores or of.probabilities)
        self._folder = tempfile.TemporaryDirectory(prefix="coreproof-")
        suffix = ".mlpackage" if model.folder is not None or model.format == "mlprogram" else ".mlmodel"
        path = model.path or model.save(Path(self._folder.name) / f"model{suffix}")
        self._proxy = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)

    @property
    def tappable(self) -> frozenset[str]:
        """Nothing, save a classifier's scores, which its output holds by label."""
        scores = self.signature.scores
        return frozenset() if scores is None or self.signature.probabilities is None else frozenset((scores,))

    def run(self, inputs: Mapping[str, Any], taps: Sequence[str] = ()) -> dict[str, Any]:
        if not self.tappable.issuperset(taps):
            raise RunError(
                "Core ML does not show inner values of a model",
                where=self.model.where,
                fix='verify with engine="auto", or cut the model at that value first',
            )
        fed: dict[str, Any] = {}
        for name, array in read_inputs(self.signature, inputs, self.model.where).items():
            layout = self.signature.input(name).image
            picture = None if layout is None else to_picture(array, layout)
            fed[name] = array if picture is None else picture.convert("RGB") if picture.mode == "RGBA" else picture
        try:
            outputs = dict(self._proxy.predict(fed))
        except Exception as error:
            raise RunError("Core ML failed while running the model", where=self.model.where, found=str(error)) from None
        return outputs if not taps else {**outputs, taps[0]: scores_in_order(outputs, self.signature)}

    def close(self) -> None:
        self._proxy = None
        self._folder.cleanup()


def scores_in_order(outputs: Mapping[str, Any], signature: Signature) -> npt.NDArray[np.float32]:
    """A classifier's scores in class order, from its dictionary of labels.

    Raises RunError where the labels do not tell the classes apart, because the dictionary then has lost some.
    """
    by_label = outputs.get(signature.probabilities or "") or {}
    labels = signature.labels or ()
    if len(by_label) != len(labels) or any(label not in by_label for label in labels):
        raise RunError(
            "Core ML gives scores by label, and the labels are not all different",
            expected=f"{len(labels)} labels",
            found=f"{len(by_label)} different ones",
            fix="make the scores an output of the model, or the labels different",
        )
    return np.array([by_label[label] for label in labels], np.float32)
