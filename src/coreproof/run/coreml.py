"""Apple's own engine, through coremltools, on a Mac."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coreproof.errors import RunError
from coreproof.model.coreml import CoreMLModel
from coreproof.run.images import to_picture
from coreproof.run.session import Session, read_inputs


class CoreMLSession(Session):
    """Runs the stored model with Core ML on the CPU, so that results can be compared with the other engines."""

    engine = "Core ML"

    def __init__(self, model: CoreMLModel) -> None:
        import coremltools

        self.model = model
        self.signature = model.signature
        self._folder = tempfile.TemporaryDirectory(prefix="coreproof-")
        suffix = ".mlpackage" if model.folder is not None or model.format == "mlprogram" else ".mlmodel"
        path = model.path or model.save(Path(self._folder.name) / f"model{suffix}")
        self._proxy = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)

    @property
    def tappable(self) -> frozenset[str]:
        return frozenset()

    def run(self, inputs: Mapping[str, Any], taps: Sequence[str] = ()) -> dict[str, Any]:
        if taps:
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
            return dict(self._proxy.predict(fed))
        except Exception as error:
            raise RunError("Core ML failed while running the model", where=self.model.where, found=str(error)) from None

    def close(self) -> None:
        self._proxy = None
        self._folder.cleanup()
