"""What a detector's outputs hold, as it is written: ``yolov8``, ``boxes=b:scores=s:xyxy``, with thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from coreproof.errors import InputError

GRAMMAR = (
    "yolov8 ([1, 4 + classes, boxes], as v9, v11, v12), yolov5 ([1, boxes, 5 + classes], as v7, x), each with :output=NAME; or "
    "boxes=NAME:scores=NAME with :xywh (centre), :xyxy or :yxyx, :pixels (else shares of the picture), :sigmoid or :softmax "
    "(else probabilities), :background=first or :background=last (a class of nothing), :columns (a box a column); each with "
    ":iou=0.45, :confidence=0.25, :any-class (a box competes with those of all classes)"
)
_FLAGS = frozenset({"xywh", "xyxy", "yxyx", "pixels", "sigmoid", "softmax", "columns", "any-class"})
# the thresholds of Ultralytics' own Core ML export
_USUAL = {"iou": "0.45", "confidence": "0.25"}
_ORDERS: dict[str, tuple[int, ...]] = {"xywh": (0, 1, 2, 3), "xyxy": (0, 1, 2, 3), "yxyx": (1, 0, 3, 2)}


@dataclass(frozen=True)
class DetectionForm:
    """``boxes`` and ``scores`` name the outputs, both "" where one raw output (``output``, or the only one) holds them."""

    text: str
    raw: Literal["", "yolov8", "yolov5"] = ""
    output: str = ""
    boxes: str = ""
    scores: str = ""
    order: str = "xywh"
    pixels: bool = False
    activation: Literal["", "sigmoid", "softmax"] = ""
    background: Literal["", "first", "last"] = ""
    columns: bool = False
    per_class: bool = True
    iou: float = 0.45
    confidence: float = 0.25

    @property
    def places(self) -> tuple[int, ...]:
        """Where x, y and the other two stand among the four numbers of a box."""
        return _ORDERS[self.order]


@dataclass
class _Said:
    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)


def read_detection(text: str) -> DetectionForm:
    """The form that ``text`` says. Raises InputError, which shows the whole grammar."""
    said = _parts(text)
    raw = [name for name in ("yolov8", "yolov5") if name in said.flags]
    iou, confidence = (_share(said.values.get(name, usual), name, text) for name, usual in _USUAL.items())
    per_class = "any-class" not in said.flags
    if raw:
        lone = (said.flags - {"any-class", *raw}) | (set(said.values) - {"output", "iou", "confidence"})
        if len(raw) > 1 or lone:
            raise _wrong(text, f"{raw[0]} says what its output holds, and takes no {', '.join(sorted(lone)) or raw[1]}")
        form: Literal["yolov8", "yolov5"] = "yolov8" if raw == ["yolov8"] else "yolov5"
        return DetectionForm(
            text, form, said.values.get("output", ""), pixels=True, per_class=per_class,
            # v8 has a box a column, v5 a box a row; both in pixels of what the network sees
            columns=form == "yolov8", iou=iou, confidence=confidence,
        )  # fmt: skip
    orders = sorted(said.flags & set(_ORDERS))
    activations = sorted(said.flags & {"sigmoid", "softmax"})
    if not said.values.get("boxes") or not said.values.get("scores") or "output" in said.values:
        raise _wrong(text, "it names no boxes and scores, and is no raw form that is known")
    if len(orders) != 1:
        raise _wrong(text, "what the four numbers of a box are is not guessed: xywh, xyxy or yxyx")
    if len(activations) > 1:
        raise _wrong(text, "scores are made by sigmoid or by softmax")
    background = said.values.get("background", "")
    if background not in ("", "first", "last"):
        raise _wrong(text, f"background is first or last, and not {background!r}")
    return DetectionForm(
        text,
        boxes=said.values["boxes"],
        scores=said.values["scores"],
        order=orders[0],
        pixels="pixels" in said.flags,
        activation="sigmoid" if activations == ["sigmoid"] else "softmax" if activations else "",
        background="first" if background == "first" else "last" if background else "",
        columns="columns" in said.flags,
        per_class=per_class,
        iou=iou,
        confidence=confidence,
    )


def _parts(text: str) -> _Said:
    said = _Said()
    for part in _split(text):
        name, equals, value = part.partition("=")
        if equals and name in ("boxes", "scores", "output", "iou", "confidence", "background"):
            said.values[name] = value
        elif not equals and (part in _FLAGS or part in ("yolov8", "yolov5")):
            said.flags.add(part)
        # their exports have the same outputs
        elif not equals and part in ("yolov9", "yolov11", "yolo11", "yolov12", "yolo12"):
            said.flags.add("yolov8")
        elif not equals and part in ("yolov7", "yolox"):
            said.flags.add("yolov5")
        else:
            raise _wrong(text, f"{part!r} is not known")
    return said


def _split(text: str) -> Sequence[str]:
    """The parts between colons; a name may hold colons itself ("boxes=/head/Concat:0")."""
    parts: list[str] = []
    for part in text.split(":"):
        starts = part.partition("=")[0] in ("boxes", "scores", "output", "iou", "confidence", "background")
        if parts and parts[-1].startswith(("boxes=", "scores=", "output=")) and not starts and part not in _FLAGS:
            parts[-1] += f":{part}"
        else:
            parts.append(part)
    return parts


def _share(said: str, name: str, text: str) -> float:
    try:
        value = float(said)
    except ValueError:
        # outside of the range, so that a word is refused as a number beyond it is
        value = -1.0
    if not 0 <= value <= 1:
        raise _wrong(text, f"{name} lies between 0 and 1, and is {said!r}")
    return value


def _wrong(text: str, why: str) -> InputError:
    return InputError(f"the detection {text!r} is not understood: {why}", expected=GRAMMAR, found=text)
