"""Session: one way to run a model, whatever its format, and what it takes for an input; one file an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from coreproof.errors import InputError, UnsupportedModelError
from coreproof.model.arguments import Engine as Engine
from coreproof.model.base import Model
from coreproof.model.features import Feature, ImageLayout, Shape, Signature
from coreproof.model.recording import Recording
from coreproof.runtime.executable import Executable
from coreproof.runtime.images import feature_pixels
from coreproof.runtime.states import State as State
from coreproof.runtime.states import read_state
from coreproof.runtime.structured import read_single, read_structured

Precision = Literal["stored", "fp32"]
Values = dict[str, Any]
"""What a run gives, by name: arrays, pictures, a label, dictionaries and lists, as the features of the model say."""


class Closing:
    """A context manager that closes what it holds at the end of a ``with`` block."""

    def close(self) -> None:
        """Frees what the engine holds; most hold nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class Session(Closing, ABC):
    """A model made ready to run. Sessions are context managers; closing one frees the engine.

    ``engine`` says in words who computes ("PyTorch", "ONNX Runtime", "coreproof's runtime (ONNX Runtime)", "Core ML"),
    for reports. ``sums_as_stored`` says that it sums products of matrices in the width in which the program stores them, where
    others take float32. ``tappable`` are the inner values that ``run`` can bring out as well. ``concurrent`` says whether several
    threads may call ``run`` at once. What an engine computes from can be read where it is known: ``executable`` is the
    graph that it runs, ``model`` what it runs as it is stored, ``recording`` the saved run that answers.
    """

    engine: str
    signature: Signature
    concurrent: bool = False
    sums_as_stored: bool = False
    executable: Executable | None = None
    model: Model | None = None
    recording: Recording | None = None

    @property
    @abstractmethod
    def tappable(self) -> frozenset[str]:
        """Names of inner values that ``run(taps=...)`` accepts."""

    @abstractmethod
    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        """Runs the model once.

        ``inputs``: arrays by feature name, cast to the declared dtype; image features also take a PIL picture. ``state``:
        what the model remembers, as ``state()`` makes it: arrays by the name of each state, read and renewed in place; what
        it does not hold begins with zeros. A model with states needs one: the session keeps nothing. Returns the model's
        outputs and the tapped values by name. Raises InputError or RunError, and UnsupportedModelError for a ``state`` where
        the engine carries none.
        """

    def state(self) -> State:
        """What the model remembers before its first run: zeros by the name of each state, to be given to ``run``.

        Whoever runs the model keeps it, so that one session serves any number of sequences. Empty for a model without
        states. Raises TooLargeError for states beyond the memory budget.
        """
        return read_state(self.signature, {}, self.engine)

    def walk(self, inputs: Mapping[str, object], groups: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
        """The values of each group in turn, for one sample; the model's outputs come with the last group.

        ``groups`` are taps as ``run`` takes them, best in the order of the model: an engine that can does all in one pass,
        and holds no more than a group and what later ones are computed from. Raises as ``run`` does.
        """
        for group in groups:
            yield self.run(inputs, group)

    def sizes(self, inputs: Mapping[str, object], taps: Sequence[str]) -> Mapping[str, int]:
        """How many elements these inner values have when the model is fed ``inputs``; of some nothing, where that is dear."""
        return {}

    def _refuse_state(self, state: State | None) -> None:
        if state is not None:
            raise UnsupportedModelError(
                f"{self.engine} carries no state from one run to the next here",
                found=f"states {', '.join(state)}" if state else "an empty state",
                fix="leave the state out",
            )


def read_inputs(signature: Signature, inputs: Mapping[str, object], where: str) -> dict[str, object]:
    """Checks names, ranks and lengths against the declared inputs and casts to the declared dtypes.

    All missing and unknown names are reported at once.
    """
    declared = {f.name: f for f in signature.inputs}
    if not isinstance(inputs, Mapping):
        raise InputError(
            "inputs are given by their names",
            where=where,
            expected="; ".join(str(f) for f in signature.inputs),
            found=f"{type(inputs).__name__}, which is no mapping",
        )
    missing = [f.name for f in signature.inputs if f.name not in inputs and not f.optional]
    unknown = [name for name in inputs if name not in declared]
    if missing or unknown:
        raise InputError(
            "the inputs do not fit the model",
            where=where,
            expected="; ".join(str(f) for f in signature.inputs),
            found=", ".join(inputs) or "nothing",
            fix="; ".join(
                part
                for part in (
                    missing and f"give {', '.join(missing)}",
                    unknown and f"leave out {', '.join(unknown)}",
                )
                if part
            ),
        )
    return {name: read_input(declared[name], value, where) for name, value in inputs.items()}


def is_number(dtype: np.dtype) -> bool:
    """Whether a dtype is one of real numbers or truth values; those that ml_dtypes adds are."""
    # 2: a dtype that was registered by an extension, as ml_dtypes does
    return dtype.kind in "biuf" or dtype.isbuiltin == 2


def _numbers(feature: Feature, value: object, dtype: str, where: str) -> np.ndarray:
    """A value as numbers of a dtype; InputError where it holds others, or none."""
    try:
        array = np.asarray(value)
        # objects may be whole numbers too large for any dtype, or tensors: the cast below tells
        if not is_number(array.dtype) and array.dtype.kind != "O":
            raise TypeError(f"an array of {array.dtype}")
        with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is said below, or is infinite
            cast = array if array.dtype == dtype else array.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"what is given for input {feature.name!r} is no array of numbers",
            where=where,
            expected=str(feature),
            found=str(error),
        ) from error
    _refuse_beyond(feature, array, cast.dtype, where)
    return cast


def _refuse_beyond(feature: Feature, array: np.ndarray, dtype: np.dtype, where: str) -> None:
    """Raises InputError for numbers that whole numbers of ``dtype`` do not hold: cast, they would be others without a word."""
    if dtype.kind not in "iu" or array.dtype == dtype or not array.size or array.dtype.kind not in "iuf":
        return
    held = np.iinfo(dtype)
    # the two ends speak for all between them
    least, most = array.min(), array.max()  # NaN where there is one
    if not (float(least) >= held.min and float(most) <= held.max):
        beyond = least if not float(least) >= held.min else most
        raise InputError(
            f"what is given for input {feature.name!r} does not fit its whole numbers",
            where=where,
            expected=f"{feature}, from {held.min} to {held.max}",
            found=str(beyond),
            fix="number what it stands for anew, within these" if array.dtype.kind in "iu" else "give whole numbers",
        )


def read_input(feature: Feature, value: object, where: str) -> object:
    """One input as an array of the declared dtype and rank; a dictionary or a list where the model takes that."""
    if feature.image is not None:
        if isinstance(value, Image.Image):
            return feature_pixels(value, _entering(feature, feature.image, value))
        array = _numbers(feature, value, "float32", where)
        # a picture without its batch, as photos are usually held
        array = array[None] if array.ndim == 3 else array
        _check_picture(feature, feature.image, array, where)
        return array
    if feature.kind in ("double", "int64", "string"):
        return read_single(feature, value, where)
    if feature.holds and feature.kind in ("dictionary", "sequence"):
        return read_structured(feature, value, where)
    # there is no width that texts could be cast to
    texts = feature.dtype is None or feature.dtype == "str"
    array = np.asarray(value) if texts else _numbers(feature, value, feature.dtype or "", where)
    if feature.ranges or feature.enumerated:
        _check_flexible(feature, array.shape, feature.shape, where)
    elif feature.shape is not None:
        fits = len(array.shape) == len(feature.shape) and all(
            # names and -1 stand for any length
            not isinstance(want, int) or want < 0 or want == have
            for want, have in zip(feature.shape, array.shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"input {feature.name!r} has the wrong shape: MultiArray shape ({_shape_text(array.shape)}) does not match the "
                f"shape ({' x '.join(map(str, feature.shape))}) specified in the model description",
                where=where,
                expected=str(feature),
                found=f"{array.dtype}[{'x'.join(map(str, array.shape))}]",
            )
    return array


def _check_picture(feature: Feature, layout: ImageLayout, array: np.ndarray, where: str) -> None:
    """Raises InputError for an array that is no picture of the channels and of a size that the model declares."""
    if array.ndim != 4 or array.shape[0] != 1 or array.shape[1] != layout.channels:
        raise InputError(
            f"input {feature.name!r} is a picture, and what is given is none",
            where=where,
            expected=f"{feature}, as a PIL picture or an array [1, {layout.channels}, height, width] of 0 to 255",
            found=f"an array of shape {list(array.shape)}",
        )
    size, usual = array.shape[2:], (layout.height, layout.width)
    if feature.ranges or len(feature.enumerated) > 1:
        _check_flexible(feature, size, usual, where)
    elif size != usual:
        raise InputError(
            f"input {feature.name!r}: Image size {size[1]} x {size[0]} is not the allowed {usual[1]} x {usual[0]}",
            where=where,
            expected=str(feature),
            found=f"a picture of {size[1]}x{size[0]}",
            fix="a PIL picture is stretched to the size; an array is taken as it is",
        )


def _entering(feature: Feature, layout: ImageLayout, picture: Image.Image) -> ImageLayout:
    """A picture of a size that the model declares enters as it is; any other is stretched to the default size."""
    if not _is_declared(feature, layout, picture):
        return layout
    return replace(layout, width=picture.width, height=picture.height)


def _is_declared(feature: Feature, layout: ImageLayout, picture: Image.Image) -> bool:
    size, usual = (picture.height, picture.width), (layout.height, layout.width)
    flexible = bool(feature.ranges or feature.enumerated)
    return size == usual or (flexible and _why_refused(feature, size, usual) is None)


def refuse_other_sizes(signature: Signature, inputs: Mapping[str, object], where: str) -> None:
    """Raises InputError, in Core ML's words, for a picture of a size that the model does not declare.

    For scripts that were written for Core ML, which stretches none: what a session takes would fail on a Mac.
    """
    for feature in signature.inputs:
        picture, layout = inputs.get(feature.name), feature.image
        if layout is None or not isinstance(picture, Image.Image) or _is_declared(feature, layout, picture):
            continue
        raise InputError(
            f"input {feature.name!r}: Image size {picture.width} x {picture.height} not in allowed set of image sizes",
            where=where,
            expected=str(feature),
            found=f"a picture of {picture.width}x{picture.height}",
            fix=f"picture.resize(({layout.width}, {layout.height})): Core ML stretches no picture either",
        )


def _check_flexible(feature: Feature, shape: tuple[int, ...], default: Shape | None, where: str) -> None:
    """Raises InputError, in Core ML's words, for a shape that is neither the default nor among what the model declares."""
    said = _why_refused(feature, shape, default)
    if said is not None:
        raise InputError(
            f"input {feature.name!r}: {said}", where=where, expected=str(feature), found=_shape_text(shape)
        )


def _why_refused(feature: Feature, shape: tuple[int, ...], default: Shape | None) -> str | None:
    if shape == default or (not feature.ranges and shape in feature.enumerated):
        return None
    if not feature.ranges:
        return f"MultiArray Shape ({_shape_text(shape)}) was not in enumerated set of allowed shapes"
    if len(shape) != len(feature.ranges):
        return f"MultiArray Shape ({_shape_text(shape)}) does not have {len(feature.ranges)} dimensions"
    outside = [
        f"Size ({length}) of dimension ({axis}) is not in allowed range ({allowed.low}..{allowed.high or ''})"
        for axis, (length, allowed) in enumerate(zip(shape, feature.ranges, strict=True))
        if length < allowed.low or (allowed.high is not None and length > allowed.high)
    ]
    return "; ".join(outside) or None


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
