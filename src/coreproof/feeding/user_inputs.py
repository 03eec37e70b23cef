"""What a user gives to feed two models: arrays in a .npz, a folder of inputs, or one of photos."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from coreproof.errors import InputError, first_few
from coreproof.feeding.drawn import Feeds, Inputs, Sample
from coreproof.feeding.ends import as_free_as
from coreproof.feeding.input_files import NamedSample, is_input_file, natural_order, read_inputs
from coreproof.feeding.inputs import hand_over, samples
from coreproof.feeding.lengths import takes_shape
from coreproof.feeding.matched_inputs import match_inputs
from coreproof.feeding.own_preprocessing import Taker, are_pixels, in_words, likeliest, own_feedings
from coreproof.feeding.photos import list_photos
from coreproof.feeding.picture_values import (
    PictureInput,
    at_declared_size,
    at_size_of,
    lone_input,
    no_picture_input,
    picture_value,
    unknown_feeding,
)
from coreproof.feeding.pictures import as_picture
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.files.arrays import read_npz
from coreproof.model.files.paths import regular_file
from coreproof.model.opened import opened, without_memory
from coreproof.model.recording import is_recording, load_recording
from coreproof.runtime.open import session
from coreproof.runtime.session import is_number

Array = np.ndarray

_NUMBERED = re.compile(r"(?P<name>.+)/(?P<index>\d+)$")


def given_feeds(
    reference: Model,
    candidate: Model,
    inputs: str | Path | None = None,
    photos: str | Path | None = None,
    limit: int = 4,
    feedings: tuple[Feeding | None, Feeding | None] = (None, None),
    states: Mapping[str, str] | None = None,
) -> Feeds | None:
    """What the user gives for both models: a .npz of arrays, or the first ``limit`` photos of a folder (or one photo).

    Of models that remember (``states``: what of an ONNX model does), arrays are steps, and give what is fed alone.
    None where neither is given. Raises InputError, PhotoError.
    """
    if inputs is not None and photos is not None:
        raise InputError("give arrays or photos, not both", found=f"{inputs} and {photos}")
    if inputs is not None:
        opened_reference, opened_candidate = (opened(m, states if m.is_onnx else None) for m in (reference, candidate))
        free = (
            as_free_as(opened_reference, opened_candidate) if opened_reference.is_torch else opened_reference.signature
        )
        sides = (
            without_memory(free, opened_reference.remembers),
            without_memory(opened_candidate.signature, opened_candidate.remembers),
        )
        pairs = [hand_over(sample, *sides) for sample in read_samples(inputs, *sides)]
        return Feeds(pairs, f"of {Path(inputs).name}")
    if photos is not None:
        path = Path(photos)
        files = list_photos(path).files[:limit] if path.is_dir() else (path,)
        return photo_feeds(reference, candidate, files, feedings)
    return None


# arrays


def given_samples(
    inputs: str | Path | Inputs, reference: Signature, candidate: Signature | None = None
) -> list[Sample]:
    """Samples given as a file (``read_samples``) or as mappings of name to array, which are looked at in the same way."""
    if isinstance(inputs, str | Path):
        return read_samples(inputs, reference, candidate)
    listed = samples(inputs)
    declared = _declared(reference, candidate)
    problems: list[str] = []
    for number, sample in enumerate(listed):
        found = _unfit({name: [np.asarray(value)] for name, value in sample.items()}, declared, reference, candidate)
        problems += [f"sample {number}: {each}" if len(listed) > 1 else each for each in found]
    if problems:
        raise _do_not_fit(problems, "the given inputs", reference, {n: np.asarray(v) for n, v in listed[0].items()})
    return listed


def read_samples(path: str | Path, reference: Signature, candidate: Signature | None = None) -> list[Sample]:
    """The samples that a .npz holds, or a folder of inputs (``input_files``): arrays named as the models' inputs.

    Several samples are given as ``name/0``, ``name/1``, ... or as one array with a leading axis more than is declared
    (or longer than the declared 1). A saved run serves as well: its inputs are taken. Raises InputError, which
    names everything that does not fit at once.
    """
    path = Path(path)
    if is_input_file(path):
        return [each.values for each in named_samples(path, reference, candidate)]
    if is_recording(path):
        return list(load_recording(path).samples)
    arrays = _read_arrays(path)
    declared = _declared(reference, candidate)
    lists: dict[str, list[Array]] = {}
    problems: list[str] = []
    unknown = []
    for name, array in arrays.items():
        numbered = _NUMBERED.match(name)
        if name in declared:
            lists.setdefault(name, []).extend(_split(array, declared[name]))
        elif numbered and numbered["name"] in declared:
            lists.setdefault(numbered["name"], []).append(array)
        else:
            unknown.append(name)
    if unknown:
        problems.append(f"no input is called {', '.join(unknown)}")
    # every sample needs all inputs: of three ids and two masks it is not known which belong together
    counts = {name: len(values) for name, values in lists.items()}
    if len(set(counts.values())) > 1:
        problems.append(
            "the inputs have another number of samples: " + ", ".join(f"{n} {c}" for n, c in counts.items())
        )
    problems += _unfit(lists, declared, reference, candidate)
    if problems:
        raise _do_not_fit(problems, str(path), reference, arrays)
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def named_samples(path: str | Path, reference: Signature, candidate: Signature | None = None) -> list[NamedSample]:
    """The same, each under the name that it has in a report: its file, and its place in it where that holds several."""
    path = Path(path)

    def archive(file: Path) -> list[Sample]:
        return read_samples(file, reference, candidate)

    if not is_input_file(path):
        listed = archive(path)
        return [
            NamedSample(f"{path.name}/{at}" if len(listed) > 1 else path.name, each) for at, each in enumerate(listed)
        ]
    found = read_inputs(path, reference, archive)
    declared = _declared(reference, candidate)
    problems: list[str] = []
    for each in found:
        lists = {name: [np.asarray(value)] for name, value in each.values.items()}
        problems += [f"{each.name}: {told}" for told in _unfit(lists, declared, reference, candidate)]
    if problems:
        raise InputError(
            "the inputs do not fit the model: " + first_few(problems),
            where=str(path),
            expected="; ".join(map(str, reference.inputs)),
            fix="correct these files: nothing is cut, filled up or converted that could change what they mean",
        )
    return found


def _unfit(
    lists: Mapping[str, Sequence[Array]],
    declared: Mapping[str, Feature],
    reference: Signature,
    candidate: Signature | None,
) -> list[str]:
    """Everything about the arrays that does not fit the inputs."""
    unknown = [name for name in lists if name not in declared]
    told = [f"no input is called {', '.join(unknown)}"] if unknown else []
    known = {name: arrays for name, arrays in lists.items() if name in declared}
    return [*told, *_missing(known, reference, candidate), *_ill_shaped(known, declared)]


def _do_not_fit(problems: list[str], where: str, reference: Signature, arrays: Mapping[str, Array]) -> InputError:
    return InputError(
        "the arrays do not fit the inputs: " + "; ".join(problems),
        where=where,
        expected="; ".join(map(str, reference.inputs)),
        found="; ".join(f"{n}: {a.dtype}[{_by(a.shape)}]" for n, a in arrays.items()) or "no arrays",
        fix=f"numpy.savez(file, {', '.join(f'{f.name}=array' for f in reference.inputs)})"
        if all(f.name.isidentifier() for f in reference.inputs)
        else "numpy.savez(file, **{name: array for every input})",
    )


def _read_arrays(path: Path) -> dict[str, Array]:
    def damaged(found: str) -> InputError:
        return InputError(
            "the inputs cannot be read", where=str(path), expected="a .npz file (numpy.savez)", found=found
        )

    regular_file(path, what="the inputs", error=InputError)
    with path.open("rb") as stream:
        # the magic of a .npy, which has no names
        alone = stream.read(6) == b"\x93NUMPY"
    if alone:
        raise InputError(
            "the file holds one array without a name",
            where=str(path),
            expected="a .npz with an array for every input",
            fix="numpy.savez(file, name=array)",
        )
    # x/10 behind x/9
    stored = read_npz(path, damaged)
    return {name: stored[name] for name in sorted(stored, key=natural_order)}


def _declared(reference: Signature, candidate: Signature | None) -> dict[str, Feature]:
    return {f.name: f for signature in (candidate, reference) if signature is not None for f in signature.inputs}


def _missing(given: Mapping[str, object], reference: Signature, candidate: Signature | None) -> list[str]:
    if candidate is None:
        names = [(f.name, f.name) for f in reference.inputs if not f.optional]
    else:
        pairs = match_inputs(reference, candidate)
        names = [(a.name, b.name) for a, b in pairs if not (a.optional and b.optional)]
    missing = [a if a == b else f"{a} (or {b})" for a, b in names if a not in given and b not in given]
    return [f"nothing is given for {', '.join(missing)}"] if missing else []


def _rank(feature: Feature) -> int | None:
    if feature.image is not None:
        return 4
    return None if feature.shape is None else len(feature.shape)


def _split(array: Array, feature: Feature) -> list[Array]:
    rank = _rank(feature)
    if rank is not None and array.ndim == rank + 1:
        return list(array)
    # a declared batch of 1 and a longer array: one sample a row
    first = 1 if feature.image is not None else feature.shape[0] if feature.shape else None
    one_at_a_time = first == 1 and not feature.ranges and not feature.enumerated
    if rank == array.ndim and one_at_a_time and len(array) > 1:
        return [array[i : i + 1] for i in range(len(array))]
    return [array]


def _ill_shaped(lists: Mapping[str, Sequence[Array]], declared: Mapping[str, Feature]) -> list[str]:
    problems = []
    for name, arrays in lists.items():
        feature = declared[name]
        texts = feature.image is None and feature.dtype in (None, "str")
        other = [a for a in arrays if not texts and not is_number(a.dtype)]
        if other:
            problems.append(f"{name} holds {other[0].dtype}, which is no number; {feature} is declared")
        wrong = [a for a in arrays if not _fits(a.shape, feature)]
        if wrong:
            problems.append(f"{name} has the shape {_by(wrong[0].shape)}, {feature} is declared")
        problems += [f"{name} {told}" for told in dict.fromkeys(filter(None, (_not_held(a, feature) for a in arrays)))]
    return problems


def _not_held(array: Array, feature: Feature) -> str | None:
    """What of the numbers the declared dtype cannot hold, where it is one of whole numbers."""
    # bfloat16 is no dtype of NumPy's own
    dtype = np.dtype(feature.dtype) if feature.dtype not in (None, "str", "bfloat16") and not feature.holds else None
    if dtype is None or dtype.kind not in "iu" or array.dtype.kind not in "iuf" or not array.size:
        return None
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        return f"holds numbers that are not whole; {feature} is declared"
    held = np.iinfo(dtype)
    low, high = array.min(), array.max()
    outside = [int(n) for n in (low, high) if not held.min <= int(n) <= held.max]
    return f"holds {outside[0]}, which {dtype} cannot hold" if outside else None


def _fits(shape: tuple[int, ...], feature: Feature) -> bool:
    image = feature.image
    declared = feature.shape if image is None else (1, image.channels, image.height, image.width)
    flexible = bool(feature.ranges or feature.enumerated)
    if image is not None and flexible:
        return True  # of another size than the default: the session says whether the model takes it
    if takes_shape(replace(feature, shape=declared), shape):
        return True
    # the two models may declare the same values in another rank: handed over where only lengths of 1 differ
    bare = [d for d in declared or () if d != 1]
    return not flexible and all(isinstance(d, int) for d in bare) and [n for n in shape if n != 1] == bare


def _by(shape: Sequence[object]) -> str:
    return "x".join(map(str, shape))


# photos


def photo_feeds(
    reference: Model,
    candidate: Model,
    photos: Sequence[str | Path | Image.Image],
    feedings: tuple[Feeding | None, Feeding | None] = (None, None),
) -> Feeds:
    """The same photos for both models, each as that model takes them.

    An image input gets the picture's pixels; a tensor input what its feeding makes of it (``feedings``, else what the
    model carries, else the other side's). A tensor beside a picture, when no feeding is known for either, gets what the
    picture's model itself does to its pixels first. The geometry (crop, resize) is the same on both sides where only one
    of them says it.

    Raises InputError where a model takes other things than one picture, or its feeding is not known; PhotoError.
    """
    sides = (_picture_input(reference), _picture_input(candidate))
    known = _known((reference, candidate), sides, feedings, photos[0])
    a, b = (_taker(m, f, k) for m, f, k in zip((reference, candidate), sides, known, strict=True))
    pairs: list[tuple[Sample, Sample]] = []
    for photo in photos:
        picture = as_picture(photo)
        pairs.append(({a.feature.name: a.value(picture)}, {b.feature.name: b.value(picture)}))
    return Feeds(pairs, _said(len(pairs), _fed_as(a), _fed_as(b)))


def _said(count: int, reference: str, candidate: str) -> str:
    photos = "a photo" if count == 1 else f"{count} photos"
    if reference == candidate:
        return f"{photos}, fed as {reference}"
    return f"{photos}, fed to the reference as {reference}, to the candidate as {candidate}"


def _picture_input(model: Model) -> Feature:
    """The one input, if it may be a picture: with or without a batch, or with the two axes in front that a NeuralNetwork has."""
    feature = lone_input(model)
    if feature.image is None and (len(feature.shape or ()) not in (3, 4, 5) or feature.dtype == "str"):
        raise no_picture_input(model)
    return feature


def _taker(model: Model, feature: Feature, feeding: Feeding | None) -> PictureInput:
    if feature.image is not None:
        return PictureInput(feature, at_size_of(feature, feeding))
    if feeding is None:
        raise unknown_feeding(model.name, feature)
    return PictureInput(feature, at_declared_size(feature, feeding))


def _fed_as(taker: PictureInput) -> str:
    image, (width, height) = taker.feature.image, taker.feeding.size
    return f"{width}x{height} {in_words(taker.feeding) if image is None else f'{image.colour} picture'}"


def _known(
    models: tuple[Model, Model],
    sides: tuple[Feature, Feature],
    given: Sequence[Feeding | None],
    photo: str | Path | Image.Image,
) -> list[Feeding | None]:
    """How each side is fed: what it was told, else what the other side was, else what a picture's model does itself first."""
    own = [f or m.feeding for f, m in zip(given, models, strict=True)]
    known = [own[0] or own[1], own[1] or own[0]]
    pictures = [side.image is not None for side in sides]
    # numbers were said, or both sides take the same: nothing is left to find out
    if any(f is not None and not _is_geometry(f) for f in own) or pictures[0] == pictures[1]:
        return known
    at = pictures.index(True)
    with session(models[at]) as shown, session(models[1 - at]) as other:
        listed = own_feedings(shown, sides[at])
        planes = picture_value(as_picture(photo), sides[at], at_size_of(sides[at]))
        takers = Taker(models[at], shown, sides[at]), Taker(models[1 - at], other, sides[1 - at])
        found = likeliest(*takers, listed, planes)
    geometry = known[0]
    cut = geometry or Feeding(size=found.size)
    found = replace(found, size=cut.size, resize=cut.resize, resize_to=cut.resize_to, interpolation=cut.interpolation)
    return [geometry, found] if at == 0 else [found, geometry]


def _is_geometry(feeding: Feeding) -> bool:
    """Whether a feeding says where to cut, and nothing about numbers."""
    return are_pixels(feeding) and feeding.colour == "RGB"
