"""``coreproof predict``: the top classes that a model sees in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli import options
from coreproof.cli.options import ModelArgument, Trust, feeding_from, read_labels


def command(
    model: ModelArgument,
    photos: Annotated[list[Path], typer.Argument(help="Pictures.", show_default=False)],
    top: Annotated[int, typer.Option(help="How many classes.", min=1)] = 5,
    labels: Annotated[Path | None, typer.Option(help="Class labels for a model that brings none, one a line.")] = None,
    size: options.Size = None,
    squash: options.Squash = False,
    resize_to: options.ResizeTo = None,
    interpolation: options.Interpolation = None,
    colour: options.Colour = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    trust: Trust = False,
) -> None:
    """Print the top classes of each picture. Core ML models are run by coreproof's runtime."""
    from coreproof.errors import PhotoError
    from coreproof.model.load import load
    from coreproof.run.predict import scores, top_classes
    from coreproof.run.session import session

    loaded = load(model, trust=trust)
    feeding = feeding_from(
        getattr(loaded, "feeding", None),
        size=size,
        squash=squash,
        resize_to=resize_to,
        interpolation=interpolation,
        colour=colour,
        scale=scale,
        mean=mean,
        std=std,
    )
    names = read_labels(labels)
    unread = []
    with session(loaded) as running:
        typer.echo(f"{loaded.name}, run by {running.engine}")
        for photo in photos:
            try:
                values = scores(running, loaded, photo, feeding)
            except PhotoError as error:
                unread.append(error)
                continue
            typer.echo(f"\n{photo.name}")
            for place in top_classes(values, running.signature.labels or names, top):
                label = place.label if place.label is not None else f"class {place.index}"
                typer.echo(f"  {place.probability:8.2%}  {label}")
    for skipped in unread:
        typer.echo(f"skipped: {skipped}", err=True)
    if unread and len(unread) == len(photos):
        raise typer.Exit(2)
