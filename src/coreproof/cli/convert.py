"""``coreproof convert``: one format into another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.functions import each_function
from coreproof.cli.options import (
    AS_CARRIED,
    AS_IT_RUNS,
    NOTHING_TOLD,
    FeedingOptions,
    Freezing,
    ModelArgument,
    Replace,
    States,
    Telling,
    Trust,
    Written,
    place_of,
    read_labels,
    unsaid_pixels,
    with_groups,
)
from coreproof.cli.say import say, say_model
from coreproof.conversion.shapes import read_shapes
from coreproof.errors import InputError
from coreproof.model.arguments import PRECISIONS, one_of

if TYPE_CHECKING:
    from coreproof.conversion.convert import Target
    from coreproof.conversion.onnx_to_coreml.features import ImageInput
    from coreproof.model.base import Model
    from coreproof.model.features import Feature
    from coreproof.verification.converted import ConversionCheck

_FEWER = "Weights in fewer bits"
_BY_SUFFIX: dict[str, Target] = {
    ".onnx": "onnx",
    ".mlpackage": "mlprogram",
    ".mlmodel": "neuralnetwork",
    ".aimodel": "coreai",
}


@with_groups("size", "colour", "scale", "mean", "std")
def command(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="OUT.onnx, .mlpackage, .mlmodel or .aimodel.", show_default=False),
    ] = None,
    written: Written = None,
    to: Annotated[
        str | None, typer.Option(help="onnx, mlprogram, neuralnetwork or coreai (default: as OUT's suffix says).")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Arithmetic of an ML Program: fp16 (default; fp32 for estimators) or fp32.")
    ] = None,
    keep_fp32: Annotated[
        str | None,
        typer.Option(
            "--keep-fp32",
            help="ONNX values or operators, with commas between, that stay in float32; auto: those that float16 breaks.",
        ),
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            help="Weights in fewer bits: palettize:4, linear:8, linear:4:block=32, prune:0.5, prune:0.5+palettize:4.",
            rich_help_panel=_FEWER,
        ),
    ] = None,
    keep_size: Annotated[
        str | None,
        typer.Option(
            "--keep-size", help="Layers, layer:weight or operators to leave as they are.", rich_help_panel=_FEWER
        ),
    ] = None,
    at_most_loss: Annotated[
        float | None,
        typer.Option(
            help="Leave the fewest weights as they are that keep the outputs within this share of their scale.",
            rich_help_panel=_FEWER,
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Arrays (.npz) to measure with, name/0, name/1, ... (default: drawn).", rich_help_panel=_FEWER
        ),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos to measure with.", rich_help_panel=_FEWER)
    ] = None,
    limit: Annotated[
        int, typer.Option(help="Measure with at most so many photos.", min=1, rich_help_panel=_FEWER)
    ] = 16,
    proof: Annotated[
        Path | None, typer.Option(help="Write what compression saved and cost (.json).", rich_help_panel=_FEWER)
    ] = None,
    target: Annotated[str | None, typer.Option(help="Deployment target: iOS15 ... iOS18, macOS12 ...")] = None,
    image: Annotated[
        bool, typer.Option("--image", help="Make the input a picture; scale, mean and std go inside.")
    ] = False,
    labels: Annotated[
        Path | None, typer.Option(help="Make a classifier (or detector) with these labels: text, JSON or CSV.")
    ] = None,
    detection: Annotated[
        str | None,
        typer.Option(
            help="Make a detector, with Core ML's non-maximum suppression: yolov8, yolov5, or "
            "boxes=A:scores=B:xyxy; :iou=0.45:confidence=0.25."
        ),
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Batch sizes: 4, a range 1-16, or a list 1,4,16.")] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape", help="Shapes of an input, again for others: x=1x3x224..1024x224..1024, ids=1x64|1x128."
        ),
    ] = None,
    state: States = None,
    feeding: FeedingOptions = AS_CARRIED,
    freezing: Freezing = AS_IT_RUNS,
    telling: Telling = NOTHING_TOLD,
    check: Annotated[
        bool,
        typer.Option(
            " /--no-check", help="Do not run what was made once beside its source on drawn input.", show_default=False
        ),
    ] = True,
    overwrite: Replace = False,
    trust: Trust = False,
) -> None:
    """Convert PyTorch or ONNX to Core ML, PyTorch or Core ML to ONNX, and any of them to Core AI.

    What was made runs once on drawn input beside its source before it is written: a model that does not run is not
    left behind (exit 2), and one whose outputs differ by more than rounding explains is written and said first (exit 1).
    Of a package of several functions the default one goes to OUT, the others beside it, with their names in front of the suffix.
    """
    from coreproof.cli.compression import check_compression, names_in
    from coreproof.cli.progress import progress
    from coreproof.conversion.convert import convert
    from coreproof.conversion.coreml_to_onnx.convert import lowered_once
    from coreproof.feeding.user_inputs import given_feeds
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.files.outputs import ONNX, check_output, model_kind
    from coreproof.model.load import load
    from coreproof.model.remembered import read_pairs
    from coreproof.precision.converted import Compression, DetectorConversion
    from coreproof.verification.converted import check_conversion

    out = place_of(out, written, "coreproof convert MODEL OUT")
    kind = _target(to, out)
    kept = ONNX if kind == "onnx" else model_kind(out)
    check_output(out, kept, replace=overwrite, inputs=(model, labels))  # before the work, not after it
    # read before the model is: a wrong pair is told at once
    states = read_pairs(state) if state else None
    loaded = load(model, trust=trust)
    to_coreml = kind not in ("onnx", "coreai")
    told = telling.read()
    if not to_coreml and (labels is not None or image or feeding.said or told):
        raise InputError(
            "--labels, --image and what is said of pictures and features are for Core ML", found=f"--to {kind}"
        )
    if kind == "onnx" and (batch is not None or shape) and not loaded.is_torch:
        raise InputError(
            "--batch and --shape are for Core ML, and for PyTorch modules", where=loaded.name, found=f"--to {kind}"
        )
    # an ONNX file has one graph to run, so that each function gets a file of its own
    if kind == "onnx" and (functions := each_function(loaded)):
        raise typer.Exit(_each_to_onnx(functions, out, check=check, overwrite=overwrite))
    classes, detector = read_labels(labels), None
    if detection is not None:
        detector = DetectorConversion(loaded, kind, detection, classes, frozen=vars(freezing))
        # the labels are the detections' classes, and the network inside has none
        loaded, classes = detector.network, None
    check_compression(
        compress, keep_size, at_most_loss, inputs or photos, proof, auto=keep_fp32 == "auto", replace=overwrite
    )
    images, shapes = _inputs(loaded, feeding, batch, shape or (), image=image, photos=photos is not None)
    # needs the shapes: what float16 breaks is found by running the model at them
    wide, notes = _wide(loaded, keep_fp32, inputs, shapes, batch, states) if kind != "onnx" else ((), ())

    def make(target: str | None, compress: str | None = None, keep_size: Collection[str] = ()) -> Model:
        return convert(
            loaded,
            kind,
            precision=None
            if precision is None or kind not in ("mlprogram", "coreai")
            else one_of(precision, PRECISIONS, "--precision"),
            target=None if kind == "onnx" else target,
            images=images,
            labels=classes,
            shapes=shapes,
            batch=batch,
            keep_fp32=wide,
            states=states,
            compress=compress,
            keep_size=keep_size,
            **vars(freezing),
        )

    with lowered_once(), progress() as report:  # the check runs what was made, and then the layers are counted
        converted = make(target, compress, names_in(keep_size))
        work = None if compress is None else Compression(loaded, converted, make, compress, names_in(keep_size))
        # compressed weights differ by more than rounding: what is checked is the same conversion without it
        frozen, judged = freezing.freeze_state, converted if work is None else work.plain
        found = (
            check_conversion(loaded, judged, images, frozen=frozen, states=states, labelled=classes is not None)
            if check
            else None
        )
        if work is not None:
            feedings = (feeding.resolve(loaded) if photos is not None else None), None
            fed = given_feeds(loaded, work.plain, inputs, photos, limit, feedings, states)
            converted = work.within(at_most_loss, fed, report)
        if detector is not None:
            # behind the check: suppression keeps some boxes of many, which no tolerance can judge
            converted = detector.finished(converted, check=check)
    if isinstance(converted, CoreMLModel):
        told.write(converted)
    # behind compression, which makes the model anew
    converted.notes = (*converted.notes, *notes)
    converted.save(out, replace=overwrite)
    raise typer.Exit(_report(model, out, converted, found, proof, overwrite=overwrite))


def _report(
    model: str, out: Path, converted: Model, found: ConversionCheck | None, proof: Path | None, *, overwrite: bool
) -> int:
    """Says what was written and what came of the check; 1 where that speaks against it."""
    from coreproof.cli.compression import print_compression, write_proof
    from coreproof.model.coreml.model import CoreMLModel

    if found is not None and not found:
        say(f"{out}: {found.said}")
    say_model(converted, out)
    if isinstance(converted, CoreMLModel) and converted.compression is not None:
        print_compression(converted.compression)
        if proof is not None:
            write_proof(converted.compression, proof, replace=overwrite)
    if found is None:
        return 0
    if not found:
        say(f"  what to do: coreproof verify {model} {out} names the layer")
        return 1
    say(f"  check   {found.said}")
    return 0


def _wide(
    model: Model,
    names: str | None,
    inputs: Path | None,
    shapes: Mapping[str, object] | None,
    batch: str | None,
    states: Mapping[str, str] | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stays in float32, and what is said of it where it was found by running."""
    from coreproof.feeding.user_inputs import given_feeds
    from coreproof.precision.keep_wide import kept_wide

    if names is None:
        return (), ()
    if names.strip() != "auto":
        return _wide_names(model, names), ()
    fed = None if inputs is None else given_feeds(model, model, inputs)
    return kept_wide(model, fed, shapes=shapes, batch=batch, states=states)


def _each_to_onnx(functions: Mapping[str, Model], out: Path, *, check: bool, overwrite: bool) -> int:
    """Converts every function of a package; 1 where one of them does not answer as it did."""
    from coreproof.conversion.convert import convert
    from coreproof.model.files.outputs import ONNX, check_output
    from coreproof.verification.converted import check_conversion

    places = {
        name: out if at == 0 else out.with_name(f"{out.stem}.{name}{out.suffix}") for at, name in enumerate(functions)
    }
    # all places before the first conversion, which may take minutes
    for place in places.values():
        check_output(place, ONNX, replace=overwrite)
    code = 0
    for name, function in functions.items():
        made = convert(function, "onnx")
        found = check_conversion(function, made) if check else None
        made.save(places[name], replace=overwrite)
        say_model(made, places[name])
        if found is not None:
            say(f"  check   {found.said}")
            code = code if found else 1
    return code


def _inputs(
    model: Model, feeding: FeedingOptions, batch: str | None, shape: Sequence[str], *, image: bool, photos: bool
) -> tuple[dict[str, ImageInput] | None, dict[str, object] | None]:
    """How the inputs are declared: which one is a picture, and the shapes that were asked for."""
    from coreproof.precision.pictures import as_picture, picture_input

    images: dict[str, ImageInput] | None = None
    own: dict[str, object] = {}
    if image:
        picture = picture_input(model, "--image")
        if not feeding.pixels and model.feeding is None:
            raise unsaid_pixels(model)
        fed = _coloured(feeding, picture).resolve(model)
        assert fed is not None
        images, own = as_picture(model, picture, fed, batch, sized=feeding.size is not None)
    elif feeding.said and not photos:
        raise InputError("how a picture is fed goes into a model that takes one", fix="say --image as well")
    return images, {**own, **read_shapes(shape)} or None


def _target(to: str | None, out: Path) -> Target:
    """The format to make: as it was said, else as the suffix of OUT says."""
    kinds = tuple(_BY_SUFFIX.values())
    if to is None and out.suffix not in _BY_SUFFIX:
        raise InputError(
            "the name of OUT does not say what to make",
            expected=", ".join(f"OUT{suffix}" for suffix in _BY_SUFFIX),
            found=str(out),
            fix=f"give it a suffix, or say --to {', '.join(kinds)}",
        )
    return one_of(_BY_SUFFIX[out.suffix] if to is None else to, kinds, "--to")


def _coloured(feeding: FeedingOptions, picture: Feature) -> FeedingOptions:
    """What was said, and of one channel that it is grey: there is no other picture of it."""
    one = picture.shape is not None and picture.shape[1] == 1
    return replace(feeding, colour="GRAY") if one and feeding.colour is None else feeding


def _wide_names(model: Model, names: str) -> tuple[str, ...]:
    """The values, all of which an ONNX model has to have; a PyTorch model gets them when it is exported."""
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    if not wanted:
        raise InputError("--keep-fp32 names no value", found=repr(names))
    if model.is_onnx:
        # the values by name, and the operators, of which all nodes stay
        made = {o for node in model.graph.nodes for o in (*node.outputs, node.operator)}
        missing = [name for name in wanted if name not in made]
        if missing:
            raise InputError(
                "--keep-fp32 names values that no operator makes, and no operators",
                where=model.name,
                found=", ".join(missing),
                fix="`coreproof verify MODEL --half` says which have to stay",
            )
    return wanted
