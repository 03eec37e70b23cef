"""``coreproof predict``: the top classes that a model sees in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import AS_CARRIED, FeedingOptions, ModelArgument, Trust, read_labels, with_groups
from coreproof.cli.say import say


@with_groups()
def command(
    model: ModelArgument,
    photos: Annotated[list[Path], typer.Argument(help="Pictures.", show_default=False)],
    top: Annotated[int, typer.Option(help="How many classes.", min=1)] = 5,
    labels: Annotated[Path | None, typer.Option(help="Class labels for a model that brings none, one a line.")] = None,
    feeding: FeedingOptions = AS_CARRIED,
    trust: Trust = False,
) -> None:
    """Print the top classes of each picture. Core ML models are run by coreproof's runtime."""
    from coreproof.errors import PhotoError
    from coreproof.feeding.predict import scores, top_classes
    from coreproof.model.load import load
    from coreproof.runtime.open import session

    loaded = load(model, trust=trust)
    fed = feeding.resolve(loaded)
    names = read_labels(labels)
    unread = []
    with session(loaded) as running:
        unlearned = " (untrained weights: the classes mean nothing)" if loaded.untrained else ""
        say(f"{loaded.name}, run by {running.engine}{unlearned}")
        for photo in photos:
            try:
                values = scores(running, loaded, photo, fed)
            except PhotoError as error:
                unread.append(error)
                continue
            say("", photo.name)
            for place in top_classes(values, running.signature.labels or names, top):
                label = place.label if place.label is not None else f"class {place.index}"
                say(f"  {place.probability:8.2%}  {label}")
    for skipped in unread:
        say(*f"skipped: {skipped}".split("\n"), err=True)
    # some photos may be skipped; where all are, nothing was predicted
    if unread and len(unread) == len(photos):
        raise typer.Exit(2)
