"""``coreproof predict``: the top classes that a model sees in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.options import AS_CARRIED, FeedingOptions, ModelArgument, Trust, read_labels, with_groups
from coreproof.cli.say import say, say_document

if TYPE_CHECKING:
    from coreproof.feeding.detections import Detection
    from coreproof.feeding.predict import Prediction


@with_groups()
def command(
    model: ModelArgument,
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PHOTO...", help="Pictures, or folders of them.", show_default=False)
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Option("--photos", help="The same, as in the other verbs. Again for others.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(help="How many classes.", min=1)] = 5,
    labels: Annotated[Path | None, typer.Option(help="Class labels for a model that brings none, one a line.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    feeding: FeedingOptions = AS_CARRIED,
    trust: Trust = False,
) -> None:
    """Print the top classes of each picture, or the boxes that a detector finds. Core ML models run on coreproof's runtime.

    A model with states sees the pictures one after the other, and remembers.
    """
    from dataclasses import asdict

    from coreproof.errors import PhotoError
    from coreproof.feeding.detections import detector_of
    from coreproof.feeding.photos import given_photos
    from coreproof.feeding.predict import feed, scores, top_classes
    from coreproof.model.load import load
    from coreproof.runtime.open import session

    files = given_photos([*(photos or []), *(more or [])])
    loaded = load(model, trust=trust)
    fed = feeding.resolve(loaded)
    names = read_labels(labels)
    detector = detector_of(loaded, names)
    seen: list[dict[str, object]] = []
    skipped: list[dict[str, str]] = []
    with session(loaded) as running:
        unlearned = " (untrained weights: the classes mean nothing)" if loaded.untrained else ""
        if not as_json:
            say(f"{loaded.name}, run by {running.engine}{unlearned}")
        state = running.state() if running.signature.states else None
        for photo, shown in files:
            try:
                if detector is not None:
                    boxes = detector.detections(running.run(feed(loaded, photo, fed)))[:top]
                    found: dict[str, object] = {"boxes": [asdict(box) for box in boxes]}
                    lines = [_line(box) for box in boxes] or ["  nothing is found"]
                else:
                    values = scores(running, loaded, photo, fed, state)
                    places = top_classes(values, running.signature.labels or names, top)
                    found = {"classes": [asdict(place) for place in places]}
                    lines = [f"  {place.probability:8.2%}  {_label(place)}" for place in places]
            except PhotoError as error:
                skipped.append({"photo": shown, "reason": str(error)})
                continue
            seen.append({"photo": shown, **found})
            if not as_json:
                say("", shown, *lines)
        if as_json:
            told = {"model": loaded.name, "engine": running.engine, "untrained": loaded.untrained}
            say_document("predictions", {**told, "predictions": seen, "skipped": skipped})
    for left_out in skipped:
        say(*f"skipped: {left_out['reason']}".split("\n"), err=True)
    # some photos may be skipped; where all are, nothing was predicted
    if skipped and not seen:
        raise typer.Exit(2)


def _label(place: Prediction | Detection) -> str | int:
    return place.label if place.label is not None else f"class {place.index}"


def _line(box: Detection) -> str:
    x, y, width, height = box.box
    return f"  {box.confidence:8.2%}  {_label(box)}  at {x:.3g}, {y:.3g}, {width:.3g} wide, {height:.3g} high"
