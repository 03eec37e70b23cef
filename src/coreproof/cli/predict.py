"""``coreproof predict``: the top classes that a model sees in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.options import AS_CARRIED, FeedingOptions, ModelArgument, Trust, read_labels, with_groups
from coreproof.cli.say import say

if TYPE_CHECKING:
    from coreproof.feeding.detections import Detection


@with_groups()
def command(
    model: ModelArgument,
    photos: Annotated[list[Path], typer.Argument(help="Pictures.", show_default=False)],
    top: Annotated[int, typer.Option(help="How many classes.", min=1)] = 5,
    labels: Annotated[Path | None, typer.Option(help="Class labels for a model that brings none, one a line.")] = None,
    feeding: FeedingOptions = AS_CARRIED,
    trust: Trust = False,
) -> None:
    """Print the top classes of each picture, or the boxes that a detector finds. Core ML models run on coreproof's runtime.

    A model with states sees the pictures one after the other, and remembers.
    """
    from coreproof.errors import PhotoError
    from coreproof.feeding.detections import detector_of
    from coreproof.feeding.predict import feed, scores, top_classes
    from coreproof.model.load import load
    from coreproof.runtime.open import session

    loaded = load(model, trust=trust)
    fed = feeding.resolve(loaded)
    names, detector = read_labels(labels), detector_of(loaded)
    unread = []
    with session(loaded) as running:
        unlearned = " (untrained weights: the classes mean nothing)" if loaded.untrained else ""
        say(f"{loaded.name}, run by {running.engine}{unlearned}")
        state = running.state() if running.signature.states else None
        for photo in photos:
            try:
                if detector is not None:
                    boxes = detector.detections(running.run(feed(loaded, photo, fed)))
                    say("", photo.name, *(map(_line, boxes[:top]) if boxes else ["  nothing is found"]))
                    continue
                values = scores(running, loaded, photo, fed, state)
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


def _line(box: Detection) -> str:
    label = box.label if box.label is not None else f"class {box.index}"
    x, y, width, height = box.box
    return f"  {box.confidence:8.2%}  {label}  at {x:.3g}, {y:.3g}, {width:.3g} wide, {height:.3g} high"
