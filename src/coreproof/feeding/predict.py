"""predict: the top classes that a model sees in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from coreproof.errors import InputError
from coreproof.feeding.detections import detector_of
from coreproof.feeding.picture_values import picture_input
from coreproof.feeding.pictures import as_picture
from coreproof.model.arguments import of_kind, whole
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.model.public import public
from coreproof.runtime.open import session
from coreproof.runtime.session import Session, State


@dataclass(frozen=True)
class Prediction:
    """One class of a classifier: its index, its label (None where the model has none), its probability 0-1."""

    index: int
    label: str | int | None
    probability: float


Picture = str | Path | Image.Image | npt.NDArray[np.uint8]
"""A picture: its file, as Pillow holds it, or its pixels, [height, width, 3] or [height, width]."""


@public
def predict(
    model: object, picture: Picture | Mapping[str, object], top: int = 5, feeding: Feeding | None = None
) -> list[Prediction]:
    """The ``top`` classes for a picture, most probable first.

    ``picture`` is a file, a PIL image or its pixels, uint8 [height, width, 3] or [height, width]; or what the model is fed as it
    is, arrays by the names of its inputs.
    ``feeding`` None takes what the model carries; a model with an image input needs none beyond its geometry.
    Scores that are not probabilities are passed through a softmax.

    Raises InputError for a model that is no picture classifier or whose feeding is not known, and for what is no picture;
    PhotoError.

    Example:
        >>> saved = cp.convert("net.onnx", "mlprogram", labels=[f"class {k}" for k in range(256)]).save("named.mlpackage")
        >>> import numpy as np
        >>> best = cp.predict("named.mlpackage", {"x": np.ones((1, 3, 8, 8), np.float32)}, top=1)[0]
        >>> best.label == f"class {best.index}"
        True

    """
    from coreproof.model.load import load

    top, feeding = whole(top, "top", least=1), of_kind(feeding, Feeding, "feeding")
    loaded = load(model)
    if detector_of(loaded) is not None:
        raise InputError(
            "the model finds boxes, and tells no classes of a picture apart",
            where=loaded.name,
            fix="run it: session(model).run({input: picture}), or `coreproof predict` for its boxes",
        )
    with session(loaded) as running:
        state = running.state() if running.signature.states else None
        return top_classes(scores(running, loaded, picture, feeding, state), running.signature.labels, top)


def scores(
    running: Session,
    model: Model,
    picture: Picture | Mapping[str, object],
    feeding: Feeding | None = None,
    state: State | None = None,
) -> npt.NDArray[np.float64]:
    """The probabilities of all classes for one picture, flat, in class order; ``state`` is what the model remembers."""
    if isinstance(picture, Mapping):
        if feeding is not None:
            raise InputError(
                "a feeding says what becomes of a picture, and arrays are fed as they are", where=model.name
            )
        fed = dict(picture)
    else:
        fed = feed(model, picture, feeding)
    scores = running.signature.scores
    taps = (scores,) if scores is not None else ()
    return probabilities(running, running.run(fed, taps, state))


def feed(model: Model, picture: Picture, feeding: Feeding | None = None) -> dict[str, object]:
    """What a model with one picture input is fed for a picture: what it sees of it, or numbers as the feeding says.

    Raises InputError for a model that takes something else, or whose feeding is not known.
    """
    opened = as_picture(picture)
    taker = picture_input(model, feeding)
    return {taker.feature.name: taker.value(opened)}


def probabilities(running: Session, outputs: Mapping[str, object]) -> npt.NDArray[np.float64]:
    """A classifier's outputs as probabilities, in class order, after softmax where they are none.

    The scores themselves are preferred to the dictionary of labels: classes that share a label are one entry there.
    """
    scores, name = running.signature.scores, running.signature.probabilities
    classes = None if name is None else outputs.get(name)
    if scores is not None and scores in outputs:
        flat = np.asarray(outputs[scores], dtype=np.float64).reshape(-1)
    elif isinstance(classes, Mapping):
        flat = np.array(list(classes.values()), dtype=np.float64)
    else:
        arrays = [v for v in outputs.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
        # ZipMap, as scikit-learn's converter ends classifiers, hands out dictionaries alone
        arrays = arrays or [rows for v in outputs.values() if (rows := dictionary_rows(v)) is not None]
        if not arrays:
            raise InputError("the model has no output of class scores", found=", ".join(outputs))
        flat = arrays[0].astype(np.float64).reshape(-1)
    return flat if is_distribution(flat) else softmax(flat)


def dictionary_rows(value: object) -> npt.NDArray[np.float64] | None:
    """The values of a sequence of dictionaries with the same keys, [dictionaries, keys], as ZipMap makes it; None for others."""
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) and row for row in value):
        return None
    if any(list(row) != list(value[0]) for row in value):
        return None
    return np.array([list(row.values()) for row in value], dtype=np.float64)


def is_distribution(values: npt.NDArray[np.float64]) -> bool:
    """Whether values are probabilities already: none negative, sum 1 within the rounding of 16-bit floats."""
    # float16 keeps each of them within 0.05 % of itself, and so their sum
    return bool(values.min() >= 0 and abs(values.sum() - 1) < 0.02)


def softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """exp(x) / sum(exp(x)), shifted by the maximum so that it cannot overflow; NaN where infinities leave no answer."""
    with np.errstate(invalid="ignore"):
        exponent = np.exp(values - values.max())
    return np.asarray(exponent / exponent.sum())


def top_classes(
    values: npt.NDArray[np.float64], labels: tuple[str, ...] | tuple[int, ...] | None, top: int
) -> list[Prediction]:
    """The ``top`` largest, most probable first; equal ones in class order. InputError for another number of labels."""
    if labels and len(labels) != values.size:
        raise InputError(
            "the labels do not fit the model's classes",
            expected=f"{values.size} labels, one a class",
            found=f"{len(labels)} labels",
        )
    # stable: of equal probabilities the lower class number comes first
    order = np.argsort(-values, kind="stable")[:top]
    return [Prediction(int(i), labels[int(i)] if labels else None, float(values[i])) for i in order]
