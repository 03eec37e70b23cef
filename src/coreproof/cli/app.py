"""``coreproof app``: an iOS project around a model, that proves itself on the device."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.options import AS_CARRIED, CoreMLArgument, FeedingOptions, Replace, Trust, read_labels, with_groups
from coreproof.cli.say import say

if TYPE_CHECKING:
    from coreproof.feeding.drawn import Sample
    from coreproof.model.base import Model


class Form(StrEnum):
    """What the project is opened with."""

    xcode = "xcode"
    swiftpm = "swiftpm"
    package = "package"


class Screen(StrEnum):
    """What the app shows of an answer."""

    classifier = "classifier"
    image = "image"
    detector = "detector"
    array = "array"


@with_groups()
def command(
    model: CoreMLArgument,
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    photos: Annotated[
        Path | None, typer.Option(help="Photos that the app carries and is proved on.", show_default=False)
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="For a model that takes no picture: a .npz with its arrays (default: random ones)."),
    ] = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            metavar="FORM",
            help="xcode: an Xcode project; swiftpm: an App Playground (OUT.swiftpm); package: a Swift package for your own app.",
        ),
    ] = Form.xcode,
    title: Annotated[str | None, typer.Option(help="What the app is called (default: the model's name).")] = None,
    identifier: Annotated[str | None, typer.Option(help="The bundle identifier.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class labels for a model that brings none, one a line.")] = None,
    screen: Annotated[
        Screen | None,
        typer.Option(metavar="SCREEN", help="classifier, image, detector or array (default: what fits the outputs)."),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many photos, spread over the folder.", min=1)] = 60,
    overwrite: Replace = False,
    feeding: FeedingOptions = AS_CARRIED,
    trust: Trust = False,
) -> None:
    """Write an iOS app around a Core ML model: try it, see it live, and prove it on the device."""
    from coreproof.cli.progress import progress
    from coreproof.handover.app import app
    from coreproof.handover.package import CALLS
    from coreproof.model.load import load

    loaded = load(model, trust=trust)
    with progress() as report:
        made = app(
            loaded,
            photos,
            out,
            inputs=_arrays(loaded, photos, inputs),
            form=form.value,
            title=title,
            identifier=identifier,
            feeding=feeding.resolve(loaded),
            labels=read_labels(labels),
            screen=None if screen is None else screen.value,
            limit=limit,
            replace=overwrite,
            progress=report,
        )
    plan = made.plan
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    count = len(plan["samples"])
    samples = f"{count} sample{'s' if count != 1 else ''}"
    say(f"{made.folder}: {plan['title']}, {_KINDS[plan['kind']]}, {samples}, {size:.1f} MB")
    say(f"  expected answers  {plan['engine']}")
    if plan["kind"] == "array" and plan["picture"] is not None:
        say("  its outputs are shown as numbers; if they are class scores: --labels FILE, or --screen classifier")
    if plan["kind"] == "classifier" and not plan["labels"]:
        say("  its classes are shown by their numbers; --labels FILE names them")
    for reason in made.left_out:
        say(f"  left out  {reason}", err=True)
    # a playground is a folder that Xcode opens itself
    if form is Form.package:
        say(f"add {out} to your app in Xcode: File, Add Package Dependencies, Add Local; then:")
        say(f"  import {plan['model']}")
        say(f"  {CALLS[plan['kind']].partition('    //')[0]}")
        return
    opened = out if form is Form.swiftpm else next(out.glob("*.xcodeproj"))
    say(f"open {opened} in Xcode; the proof screen writes device.json")
    if form is Form.xcode:
        say("  or as a test: xcodebuild test; .github/workflows/proof.yml runs it on GitHub")
    if plan["kind"] == "classifier" and plan["picture"] is not None:
        say("to put the device into the matrix of a line-up:")
        say(f"  coreproof compare LINEUP.toml --photos {shlex.quote(str(photos))} --import device.json --out FOLDER")


_KINDS = {
    "classifier": "a classifier's app",
    "image": "an app that shows pictures",
    "detector": "an app that draws boxes",
    "array": "an app that shows numbers",
}
_DRAWN = 8
"""Samples of random values for a model that takes no picture."""


def _arrays(model: Model, photos: Path | None, inputs: Path | None) -> list[Sample] | None:
    """What a model that takes no picture is proved on: the user's arrays, else random ones; None for a model of pictures."""
    from coreproof.feeding.drawn import SEED, random_feeds
    from coreproof.feeding.user_inputs import read_samples
    from coreproof.model.coreml.model import CoreMLModel

    if inputs is not None:
        return read_samples(inputs, model.signature)
    # another format is refused by ``app`` itself, in its own words
    if photos is not None or not isinstance(model, CoreMLModel):
        return None
    if any(f.kind not in ("tensor", "double", "int64") for f in model.signature.inputs):
        return None
    return [random_feeds(model, model, SEED + number)[0] for number in range(_DRAWN)]
