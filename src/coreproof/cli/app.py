"""``coreproof app``: an iOS project around a model, that proves itself on the device."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import AS_CARRIED, FeedingOptions, ModelArgument, Trust, read_labels, with_feeding


class Form(StrEnum):
    """What the project is opened with."""

    xcode = "xcode"
    swiftpm = "swiftpm"


@with_feeding()
def command(
    model: ModelArgument,
    photos: Annotated[Path, typer.Option(help="Photos that the app carries and is proved on.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    form: Annotated[
        Form, typer.Option("--format", help="An Xcode project, or an App Playground (.swiftpm).")
    ] = Form.xcode,
    title: Annotated[str | None, typer.Option(help="What the app is called (default: the model's name).")] = None,
    identifier: Annotated[str | None, typer.Option(help="The bundle identifier.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class labels for a model that brings none, one a line.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many photos, spread over the folder.", min=1)] = 60,
    feeding: FeedingOptions = AS_CARRIED,
    trust: Trust = False,
) -> None:
    """Write an iOS app around a Core ML model: try it, see it live, and prove it on the device."""
    from coreproof.cli.progress import progress
    from coreproof.model.load import load
    from coreproof.ship.app import app

    loaded = load(model, trust=trust)
    with progress() as report:
        made = app(
            loaded,
            photos,
            out,
            form=form.value,
            title=title,
            identifier=identifier,
            feeding=feeding.of(loaded),
            labels=read_labels(labels),
            limit=limit,
            progress=report,
        )
    plan = made.plan
    typer.echo(f"{made.folder}: {plan['title']}, a {plan['kind']} app with {len(plan['photos'])} photos")
    typer.echo(f"  expected answers  {plan['engine']}")
    for reason in made.left_out:
        typer.echo(f"  left out  {reason}", err=True)
    opened = out if form is Form.swiftpm else next(out.glob("*.xcodeproj"))
    typer.echo(f"open {opened} in Xcode; the proof screen writes device.json for `coreproof compare --import`")
