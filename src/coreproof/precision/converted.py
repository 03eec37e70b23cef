"""convert, as users call it: with weights compressed and proved, and with what float16 breaks kept in float32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coreproof.conversion.convert import Target, to_onnx
from coreproof.conversion.convert import convert as translate
from coreproof.conversion.coreml_to_onnx.convert import lowered_once
from coreproof.conversion.description import Description
from coreproof.conversion.detection_form import read_detection
from coreproof.conversion.onnx_to_coreml.detection import ends_in_rows, with_suppression
from coreproof.conversion.onnx_to_coreml.features import SPECIFICATIONS
from coreproof.conversion.shapes import of_dynamic_shapes
from coreproof.errors import ConversionError, InputError
from coreproof.feeding.drawn import Feeds, Inputs
from coreproof.feeding.inputs import feeds_of
from coreproof.model.arguments import System
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.model.files.label_file import read_label_file
from coreproof.model.load import load
from coreproof.model.opened import opened
from coreproof.model.progress import Progress
from coreproof.model.public import public
from coreproof.precision.compression import compressed_within
from coreproof.precision.keep_wide import kept_wide
from coreproof.precision.pictures import pictures_of
from coreproof.verification.converted import check_conversion
from coreproof.verification.suppressed import check_suppression

if TYPE_CHECKING:
    from coreproof.conversion.onnx_to_coreml.features import ImageInput

Make = Callable[..., Model]
"""``make(target, scheme, keep)``: a conversion; without a scheme its weights are not compressed."""


@lowered_once()
@public
def convert(
    model: Model | str | Path | object,
    to: Target = "mlprogram",
    *,
    precision: Literal["fp16", "fp32", "float16", "float32"] | None = None,
    target: System | None = None,
    images: Mapping[str, ImageInput] | bool | None = None,
    feeding: Feeding | None = None,
    labels: Sequence[str] | str | Path | None = None,
    shapes: Mapping[str, object] | None = None,
    batch: int | str | None = None,
    fold_batchnorm: bool = True,
    keep_fp32: Collection[str] | Literal["auto"] = (),
    freeze_state: bool = False,
    freeze_branches: bool = False,
    states: Mapping[str, str] | None = None,
    compress: str | None = None,
    keep_size: Collection[str] = (),
    at_most_loss: float | None = None,
    inputs: Inputs | None = None,
    detection: str | None = None,
    metadata: Mapping[str, str] | None = None,
    describe: Mapping[str, str] | None = None,
    defaults: Mapping[str, float] | None = None,
    check: bool = True,
    example: object = None,
    dynamic_shapes: object = None,
) -> Model:
    """Converts a model; the result is in memory, ``save`` writes it.

    ``to`` "mlprogram", the default, and "neuralnetwork" take ONNX and PyTorch models (through ONNX); "onnx" takes PyTorch and
    Core ML models; "coreai" (with ``coreproof[coreai]``) takes ML Programs as they are, and all others through one.
    ``precision`` is the arithmetic of an ML Program (default "fp16"; a NeuralNetwork is always "fp32");
    "float16" and "float32" are other names of the two.
    ``target`` is the deployment target ("iOS17"). ``images`` makes inputs into pictures: name -> ImageInput; True:
    the one input that can be one, fed as ``feeding`` says (or the model itself), which the file then notes.
    ``keep_fp32`` names ONNX values, or operators, that stay in float32 in a float16 program; "auto" finds by running which of
    them have to, over ``inputs`` or over inputs that are drawn, and a note names them.
    ``labels`` makes a classifier: the names, or a file of them (one a line, numbered, JSON or CSV).
    ``shapes`` frees dimensions: name -> a shape with ranges beside an int, [1, 3, (224, 1024), (224, 1024)], or as text,
    ["1..4", "1..16"] or "1..4x1..16"; or a list of whole shapes, [(1, 64), (1, 128)].
    ``batch`` does the same with the first dimension of all inputs that ``shapes`` does not name: 4, "1-16" or "1,4,16".
    ``freeze_state`` keeps buffers that a PyTorch module changes while it runs as they are; without it they become states of an
    ML Program (from iOS 18 on, for which it is made where no ``target`` is said), and inputs and outputs of anything else.
    ``states`` says the same of an ONNX model's inputs: {"past_*": "present_*"}.
    ``freeze_branches`` keeps each if on data (and each number taken out of a tensor) as the example inputs take it, where
    PyTorch cannot export it otherwise; without it such a module is refused with every line.
    ``example`` is what a module, given as it is, is called with: a tuple of tensors, or a dictionary of them by name.
    ``dynamic_shapes`` says which of its lengths are free as torch.export does, in place of ``shapes``: {"x": {0: Dim("batch")}}.
    ``compress`` is how weights of an ML Program are compressed: "palettize:4", "linear:8", "linear:4:block=32", "prune:0.5",
    "prune:0.5+palettize:4". ``keep_size`` leaves layers, "layer:weight" or operators as they are; with ``at_most_loss``, a share
    of an output's scale, the fewest further ones with which the outputs stay that close to the source's, over ``inputs``
    (name -> array, one or several) or drawn ones. The proof is the result's ``compression``.
    ``detection`` says what a detector's outputs hold ("yolov8", "boxes=b:scores=s:xyxy"): it becomes a pipeline with Core ML's
    non-maximum suppression, which gives ``confidence`` and ``coordinates``; ``labels`` are then those of its classes.
    ``metadata`` is what the model tells of itself ("author", "license", "version", "description"), ``describe`` what each feature
    is for, and ``defaults`` are inputs that may be left out with the number that they hold then.
    ``check`` runs the result once on drawn input and holds its outputs against the source's (of a compressed model, before its
    weights are compressed); what came of it is the last of the model's ``notes``. It is no verification of every value: that is
    ``verify``.

    Raises InputError for an argument that is none of its list, UnsupportedOperatorsError (all of them at once), and
    ConversionError, also where the result does not run or its outputs differ from the source's.

    Example:
        >>> model = cp.convert("net.onnx", "mlprogram", precision="fp32")
        >>> model.save("new.mlpackage").name
        'new.mlpackage'

    """
    if at_most_loss is not None and compress is None:
        raise InputError("at_most_loss= goes with compress=", found="no way to compress")
    if images is not None and not isinstance(images, bool | Mapping):
        raise InputError(
            "images makes inputs into pictures, by their names",
            expected="{'x': cp.ImageInput(...)}, or True for the one that can be one",
            found=repr(images)[:80],
        )
    told = Description(metadata or {}, describe or {}, defaults or {})
    if told and to in ("onnx", "coreai"):
        raise InputError("what a model tells of itself is for Core ML", found=f'to="{to}"')
    if isinstance(labels, str | Path):
        named = read_label_file(Path(labels), InputError.of_file("the label file cannot be read", Path(labels)))
        labels = tuple(map(str, named))
    source = load(model, example=example)
    if dynamic_shapes is not None:
        if shapes is not None or batch is not None:
            raise InputError("dynamic_shapes says what shapes and batch say: give one of them", where=source.name)
        shapes = of_dynamic_shapes(dynamic_shapes, source.signature.inputs)
    if feeding is not None and images is not True:
        raise InputError("feeding= says how a picture is fed: it goes with images=True", where=source.name)
    notes: tuple[str, ...] = ()
    detector = None
    if detection is not None:
        frozen = {"freeze_state": freeze_state, "freeze_branches": freeze_branches}
        detector = DetectorConversion(source, to, detection, labels, fold_batchnorm, shapes, frozen)
        # the labels are the detections' classes: the network inside has none
        source, labels = detector.network, None
    pictures: Mapping[str, ImageInput]
    if images is True:
        pictures, shapes = pictures_of(source, feeding, batch, shapes)
    else:
        pictures = images if isinstance(images, Mapping) else {}
    if keep_fp32 == "auto":
        keep_fp32, notes = kept_wide(source, inputs, shapes=shapes, batch=batch, states=states)

    def make(target: str | None, compress: str | None = None, keep_size: Collection[str] = ()) -> Model:
        return translate(
            source, to, precision=precision, target=target, images=pictures or None, labels=labels, shapes=shapes, batch=batch,
            fold_batchnorm=fold_batchnorm, keep_fp32=keep_fp32, freeze_state=freeze_state,
            freeze_branches=freeze_branches, states=states, compress=compress, keep_size=keep_size,
        )  # fmt: skip

    made = make(target, compress, keep_size)
    work = None if compress is None else Compression(source, made, make, compress, keep_size)
    if check:
        # what bits are saved differs by more than rounding: checked is the same conversion without it
        judged = made if work is None else work.plain
        found = check_conversion(
            source,
            judged,
            pictures or None,
            frozen=freeze_state,
            states=states,
            labelled=labels is not None,
        )
        if not found:
            raise ConversionError(
                found.said,
                where=made.name,
                fix="`coreproof verify` names the layer; check=False hands the model out all the same",
            )
        notes = (*notes, found.said)
    if work is not None:
        made = work.within(
            at_most_loss, None if inputs is None else feeds_of(opened(source), opened(work.plain), inputs)
        )
    # behind compression, which hands out another model
    made.notes = (*made.notes, *notes)
    if detector is not None:
        # last: suppression keeps a few of many boxes, which no tolerance judges
        made = detector.finished(made, check=check)
    if isinstance(made, CoreMLModel):
        told.write(made)
    return made


class DetectorConversion:
    """A detector that becomes a pipeline: ``network`` is the ONNX model that gives a row a box.

    Raises InputError for a ``detection`` that is not understood, ConversionError where the outputs do not hold what it says.
    """

    def __init__(
        self,
        source: Model,
        to: Target,
        detection: str,
        labels: Sequence[str] | None,
        fold_batchnorm: bool = True,
        shapes: Mapping[str, object] | None = None,
        frozen: Mapping[str, bool] | None = None,
    ) -> None:
        self.form = read_detection(detection)
        if to in ("onnx", "coreai"):
            raise InputError("detection= makes a Core ML pipeline", found=f'to="{to}"')
        # an exported detector may carry its classes itself
        known = labels if labels is not None else source.signature.labels
        self.labels = None if known is None else [str(label) for label in known]
        middle = to_onnx(source, fold_batchnorm, shapes=shapes, **(frozen or {}))
        self.network = ends_in_rows(middle, self.form, self.labels)

    def finished(self, made: Model, *, check: bool) -> CoreMLModel:
        """The pipeline of what the network was converted to. Raises ConversionError where it keeps other boxes than it should."""
        assert isinstance(made, CoreMLModel)
        pipeline = with_suppression(made, self.form, self.labels)
        if check:
            found = check_suppression(self.network, made, pipeline, self.form)
            if not found:
                raise ConversionError(found.said, where=made.name, fix="please report it with the model")
            pipeline.notes = (*pipeline.notes, found.said)
        return pipeline


class Compression:
    """A conversion whose weights are compressed, beside the same one uncompressed (``plain``).

    ``made`` is the first with all weights compressed save ``keep``; ``make`` converts once more: for a target, with a scheme and
    weights to leave as they are.
    """

    def __init__(self, source: Model, made: Model, make: Make, scheme: str, keep: Collection[str]) -> None:
        assert isinstance(made, CoreMLModel)
        self.source, self.made, self.make, self.scheme, self.keep = source, made, make, scheme, keep
        # for the system that the compressed one is for, as layers are written otherwise for others
        self.target = next(
            f"iOS{ios}" for ios, version in SPECIFICATIONS.items() if version == made.spec.specificationVersion
        )
        plain = make(self.target)
        assert isinstance(plain, CoreMLModel)
        self.plain = plain

    def within(
        self, at_most: float | None = None, feeds: Feeds | None = None, progress: Progress | None = None
    ) -> CoreMLModel:
        """The compressed model, with its proof. Raises as ``compressed_within``."""
        made, report = compressed_within(
            self.source,
            self.plain,
            self._with,
            scheme=self.scheme,
            keep=self.keep,
            feeds=feeds,
            at_most=at_most,
            progress=progress,
        )
        made.compression = report
        made.notes = (*made.notes, *report.summary().split("\n"))
        return made

    def _with(self, keep: Collection[str]) -> CoreMLModel:
        # that one was made at the beginning
        if set(keep) == set(self.keep):
            return self.made
        made = self.make(self.target, self.scheme, keep)
        assert isinstance(made, CoreMLModel)
        # what was said of the target stays said
        made.notes = self.made.notes
        return made
