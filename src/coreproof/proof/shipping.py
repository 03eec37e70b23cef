"""What the Core ML models of a proof are made for, and what they tell of themselves: they are the ones to ship."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from coreproof.conversion.convert import Target
from coreproof.conversion.description import Description
from coreproof.conversion.onnx_to_coreml.features import ios_version
from coreproof.conversion.shapes import allowed_batches
from coreproof.errors import InputError
from coreproof.model.arguments import PRECISIONS, one_of
from coreproof.model.base import Model
from coreproof.model.coreai.child import has_packages
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.noted_feeding import NAME

Half = Literal["fp16", "fp32"]
Precision = Literal["fp16", "fp32", "float16", "float32"]


@dataclass(frozen=True)
class Shipping:
    """``target``: the oldest system of the ML Programs. ``precision`` None makes one of each, ``batch`` None leaves it as it is.

    ``told`` goes into every model. Raises InputError for a target, a precision or a batch that is none.
    """

    target: str = "iOS17"
    precision: Precision | None = None
    batch: str | None = None
    told: Description = field(default_factory=Description)

    def __post_init__(self) -> None:
        # one that is not known is an error, and no step that is "not possible"
        ios_version(self.target, "mlprogram")
        if self.precision is not None:
            one_of(self.precision, PRECISIONS, "precision")
        if self.batch is not None:
            allowed_batches(self.batch)

    def conversions(self, prefix: str) -> tuple[tuple[str, Target, Half], ...]:
        """Short name, format and precision of each model that is made; of Core AI's where Apple's package is installed."""
        programs: tuple[tuple[str, Target, Half], ...] = (
            (f"{prefix}c", "mlprogram", "fp32"),
            (f"{prefix}c16", "mlprogram", "fp16"),
        )
        asked = None if self.precision is None else self.precision.replace("float", "fp")
        wanted = tuple(each for each in programs if asked in (None, each[2]))
        networks: tuple[tuple[str, Target, Half], ...] = (*wanted, (f"{prefix}nn", "neuralnetwork", "fp32"))
        # half width where it is not refused, as an app ships it
        return (
            (*networks, (f"{prefix}a", "coreai", "fp32" if asked == "fp32" else "fp16")) if has_packages() else networks
        )

    @property
    def takes_several(self) -> bool:
        """Whether the models take a batch: no picture, and no class of a picture."""
        return self.batch is not None and any(each != (1, 1) for each in allowed_batches(self.batch))

    def check_photos(self, model: Model) -> None:
        """Raises InputError where photos, which are fed one by one, cannot reach the models."""
        if self.batch is not None and not any(low <= 1 for low, _ in allowed_batches(self.batch)):
            raise InputError(
                "photos are fed one by one, and the models would take no batch of 1",
                where=model.name,
                expected="a batch that allows 1",
                found=f"--batch {self.batch}",
                fix=f"--batch 1,{self.batch}, or prove without photos: the inputs are then drawn",
            )

    def finish(self, model: Model, source: str) -> None:
        """Writes into a converted model what it is to tell of itself, and the name of its source."""
        if isinstance(model, CoreMLModel):
            self.told.write(model)
            model.spec.description.metadata.userDefined[NAME] = source

    def to_json(self) -> dict[str, object]:
        """What a proof says that it was made with."""
        told: Mapping[str, object] = {key: dict(value) for key, value in vars(self.told).items()}
        return {"target": self.target, "precision": self.precision, "batch": self.batch, "told": told}

    @classmethod
    def read(cls, options: Mapping[str, object]) -> Shipping:
        """The same of a stored proof's options; what an earlier coreproof did not write is as it was then."""
        told = options.get("told")
        parts = told if isinstance(told, dict) else {}
        texts = {key: part for key, part in parts.items() if isinstance(part, dict)}
        asked, batch = options.get("precision"), options.get("batch")
        precision = None if asked is None else one_of(asked, PRECISIONS, "precision")
        target = str(options.get("target", "iOS17"))
        return cls(target, precision, batch if isinstance(batch, str) else None, Description(**texts))
