"""What every model of a proof is fed: the same photos, the same arrays, or what is drawn for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from coreproof.errors import InputError, PhotoError
from coreproof.feeding.drawn import Feeds, Inputs, Sample, random_feeds
from coreproof.feeding.input_files import NamedSample
from coreproof.feeding.inputs import GIVEN, hand_over
from coreproof.feeding.photos import Photos
from coreproof.feeding.picture_values import lacking_options, lone_input, picture_value, unknown_feeding
from coreproof.feeding.pictures import open_picture
from coreproof.feeding.user_inputs import given_samples, named_samples
from coreproof.model.arguments import whole
from coreproof.model.base import Model
from coreproof.model.class_labels import class_count
from coreproof.model.features import Signature
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import resize_and_crop

PROOF_PHOTOS = 8
"""How many photos each step of a proof is verified on, value by value; all of them are compared by their predictions."""


def _batch_of(sample: Sample) -> int:
    """How many samples one feeding may hold: the length in front that all arrays share which have more axes; else 1."""
    lengths = {value.shape[0] for value in sample.values() if isinstance(value, np.ndarray) and value.ndim > 1}
    return int(lengths.pop()) if len(lengths) == 1 else 1


def _apart(one: NamedSample, signature: Signature) -> list[NamedSample]:
    """The samples of a batch, where the model leaves its length open in every input, under one name; else the sample itself."""
    first = {f.shape[0] if f.shape else 0 for f in signature.inputs if f.name in one.values}
    count = _batch_of(one.values)
    if count < 2 or len(first) > 1 or any(isinstance(length, int) for length in first):
        return [one]
    arrays = {name: np.asarray(value) for name, value in one.values.items()}
    if any(value.shape[:1] != (count,) for value in arrays.values()):
        return [one]
    rows = ({name: value[at : at + 1] for name, value in arrays.items()} for at in range(count))
    return [NamedSample(f"{one.name}/{at}", row) for at, row in enumerate(rows)]


class ProofFeeds:
    """Photos spread evenly over a folder, in the form that each model takes; or arrays, under each model's names; or draws.

    ``unreadable``: photos that were met and are none, and why. ``origin`` says in words where given arrays came from.
    ``batches``: a given batch is fed as it is, as the models take several samples at once.
    Raises InputError where photos cannot be fed: to other than one picture, or without a known feeding; for photos beside
    arrays; and for arrays that do not fit the source, with all of it. PhotoError where no photo can be read.
    """

    def __init__(
        self,
        source: Model,
        photos: Photos | None,
        inputs: str | Path | Inputs | None,
        feeding: Feeding | None,
        samples: int = PROOF_PHOTOS,
        origin: str | None = None,
        *,
        batches: bool = False,
    ) -> None:
        samples = whole(samples, "samples", least=1)
        if photos is not None and inputs is not None:
            raise InputError("give arrays or photos, not both", where=source.name)
        self.source = source
        self.feeding = feeding
        # examples that stand in for draws are no test set of anybody
        self.by_user = origin is None and inputs is not None
        self._origin = origin or (f"of {Path(inputs).name}" if isinstance(inputs, str | Path) else GIVEN)
        self._samples = samples if isinstance(inputs, str | Path) and Path(inputs).is_dir() else None
        named = self._named_samples(inputs)
        # where the source leaves a batch open, what is made of it takes one sample at a time
        self.named = named if batches else [each for one in named for each in _apart(one, source.signature)]
        self.given: list[Sample] | None = None if inputs is None else [each.values for each in self.named]
        self.unreadable: dict[str, str] = {}
        self.files: tuple[Path, ...] = ()
        if photos is not None:
            self._check_picture()
            self.files = self._readable(photos, samples)

    def _readable(self, photos: Photos, samples: int) -> tuple[Path, ...]:
        """So many photos, spread over the folder; in the place of one that cannot be read stands the next that can."""
        chosen: dict[Path, None] = {}
        for first in photos.spread(samples).files:
            at = photos.files.index(first)
            for file in (*photos.files[at:], *photos.files[:at]):
                if file not in chosen and photos.name(file) not in self.unreadable and self._can_be_read(file, photos):
                    chosen[file] = None
                    break
        if not chosen:
            found = "; ".join(f"{name}: {why}" for name, why in list(self.unreadable.items())[:5])
            raise PhotoError("none of the photos can be read", where=str(photos.folder), found=found)
        return tuple(sorted(chosen))

    def _can_be_read(self, file: Path, photos: Photos) -> bool:
        try:
            open_picture(file)
        except PhotoError as error:
            self.unreadable[photos.name(file)] = str(error.found or error.problem)
            return False
        return True

    def _named_samples(self, inputs: str | Path | Inputs | None) -> list[NamedSample]:
        """All samples that are given, and what each is called."""
        if inputs is None:
            return []
        if isinstance(inputs, str | Path):
            return named_samples(inputs, self.source.signature)
        listed = given_samples(inputs, self.source.signature)
        return [NamedSample(f"sample {at}", each) for at, each in enumerate(listed)]

    def _check_picture(self) -> None:
        taken = lone_input(self.source, "give arrays: --inputs FILE.npz, or neither, and inputs are drawn")
        feeding, shape = self.feeding, taken.shape
        if feeding is None:
            # a file has no function in which it could be said
            signature = self.source.signature
            classes = None if signature.labels else class_count(signature)
            stored = self.source.path is not None and self.source.path.suffix in (".onnx", ".pt2")
            raise unknown_feeding(self.source.name, taken, lacking_options(taken, classes) if stored else None)
        if shape is None or len(shape) != 4:
            return
        wanted = shape[1:3] if feeding.layout == "NHWC" else shape[2:4]
        if any(isinstance(want, int) and want != have for have, want in zip(feeding.size[::-1], wanted, strict=True)):
            raise InputError(
                "the feeding's size is not the model's",
                where=self.source.name,
                expected=str(taken),
                found=f"pictures of {feeding.size[0]}x{feeding.size[1]}",
                fix=f"--size {wanted[1]}x{wanted[0]}",
            )

    @property
    def are_compared(self) -> bool:
        """Whether inputs were given over all of which models are compared: a folder, or several samples in any form."""
        several = len(self.named) > 1 or any(_batch_of(each.values) > 1 for each in self.named)
        return self._samples is not None or (self.by_user and several)

    @property
    def draws(self) -> bool:
        """Whether nothing was given."""
        return not self.files and self.given is None

    def give(self, sample: Sample, origin: str) -> None:
        """Feeds this sample from now on, where nothing was given; ``origin`` says in words where it came from."""
        self.given, self.named, self._origin = [sample], [NamedSample("example", sample)], origin

    @property
    def origin(self) -> str:
        """Where given arrays came from, in words."""
        return self._origin

    @property
    def said(self) -> str:
        """What is fed, in words."""
        if self.given is not None:
            few = len(self._verified())
            return self._origin if few == len(self.given) else f"{few} of {len(self.given)} {self._origin}"
        return f"{len(self.files)} photos, fed as {self.feeding}" if self.files else "drawn"

    def samples_for(self, model: Model) -> list[Sample]:
        """The samples in the form that ``model`` takes: pixels for an image input, else numbers."""
        if self.given is not None:
            return [hand_over(sample, self.source.signature, model.signature)[1] for sample in self._verified()]
        if not self.files:
            return [random_feeds(self.source, model)[1]]
        assert self.feeding is not None
        feature = model.signature.inputs[0]
        return [{feature.name: picture_value(open_picture(path), feature, self.feeding)} for path in self.files]

    def shown(
        self, reference: Model, candidate: Model, most: int
    ) -> list[tuple[str, Sample, Sample, Image.Image | None]]:
        """The first few samples for a person to look at: a name, what each model is fed, and the picture that they see of it."""
        between = self.between(reference, candidate)
        fed = [random_feeds(reference, candidate)] if between is None else list(between.pairs)
        names = [path.name for path in self.files] or [each.name for each in self.named] or ["drawn"]
        pictures: list[Image.Image | None] = [None] * len(names)
        if self.files and self.feeding is not None:
            # a network of grey pictures saw no colour
            mode = "L" if self.feeding.colour.startswith("GRAY") else "RGB"
            pictures = [resize_and_crop(open_picture(path), self.feeding).convert(mode) for path in self.files[:most]]
        return [
            (name, first, second, picture)
            for name, (first, second), picture in zip(names, fed[:most], pictures, strict=False)
        ]

    def _verified(self) -> list[Sample]:
        """Those of the given samples that steps are verified on: all of a file, and of a folder as many as of photos."""
        given = self.given or []
        if self._samples is None or len(given) <= self._samples:
            return given
        return [given[int(at * len(given) / self._samples)] for at in range(self._samples)]

    def between(self, reference: Model, candidate: Model) -> Feeds | None:
        """What both are fed, as ``verify`` takes it; None where it draws."""
        if self.draws:
            return None
        return Feeds(list(zip(self.samples_for(reference), self.samples_for(candidate), strict=True)), self.said)
