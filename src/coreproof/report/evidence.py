"""evidence: the photos that decide the verdict, with what two models saw of each, what they answered, why, and what to do."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Iterator

from PIL import Image

from coreproof.comparison.comparison import Cause, Comparison, Explanation, ModelInfo, ModelPair
from coreproof.errors import PhotoError
from coreproof.feeding.pictures import open_picture
from coreproof.model.feeding import Feeding
from coreproof.report.curve import Document
from coreproof.runtime.images import resize_and_crop, seen_part

_PHOTOS = 3
_ANSWERS = 3
_SIDE = 720
"""Longer side in pixels of a photo that is shown large: sharp at the width of a phone, about 60 kB."""
_SEEN = 224
"""Pixels of what a model saw: small networks see less and are enlarged as they are, larger ones are made smaller."""


def evidence(comparison: Comparison, pair: ModelPair | None) -> Document | None:
    """What shows how far the two models of ``pair`` are apart; None where there is no pair, or none of its photos opens.

    The photos are those on which they name another class, the furthest apart first; where they agree on all, those on which
    they come closest to differing.
    """
    if pair is None:
        return None
    differing = comparison.disagreements(pair.a, pair.b, _PHOTOS)
    names = differing or [photo for photo, _ in comparison.most_divergent(pair.a, pair.b, _PHOTOS)]
    models = [comparison.models[comparison.index(name)] for name in (pair.a, pair.b)]
    photos = [shown for name in names if (shown := _photo(comparison, models, name)) is not None]
    if not photos:
        return None
    found = next((e for e in comparison.explanations if {e.a, e.b} == {pair.a, pair.b}), None)
    best = None if found is None else min(found.causes, key=lambda cause: cause.differ, default=None)
    alike = _same_pixels(models[0].fed, models[1].fed)
    differ = pair.photos - pair.count
    return {
        "a": models[0],
        "b": models[1],
        "differ": differ,
        "of": pair.photos,
        "photos": photos,
        "same_pixels": alike,
        "why": _why(best, pair, alike) if differ else None,
        "todo": _todo(comparison, found, best, models, alike) if differ else None,
    }


def _photo(comparison: Comparison, models: list[ModelInfo], name: str) -> Document | None:
    try:
        picture = open_picture(name, comparison.source.read(name))
    except PhotoError:
        return None
    truth = comparison.truth_of(name)
    large = picture.copy()
    large.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return {
        "name": name,
        "src": _jpeg(large),
        "width": large.width,
        "height": large.height,
        "truth": None if truth is None else comparison.class_name(truth),
        "seen": [_seen(comparison, model, name, picture, truth) for model in models],
    }


def _seen(comparison: Comparison, model: ModelInfo, name: str, picture: Image.Image, truth: int | None) -> Document:
    """What one model saw of a photo, and what it answered; ``margin`` is by how much its first class led."""
    answers = comparison.predictions(model.name, name)
    return {
        "model": model,
        "answers": [
            {"name": comparison.class_name(index), "share": share, "right": index == truth}
            for index, share in answers[:_ANSWERS]
        ],
        "margin": answers[0][1] - answers[1][1] if len(answers) > 1 else None,
        "frame": None if model.fed is None else _frame(picture.size, model.fed),
        "src": None if model.fed is None else _input(picture, model.fed),
        "size": None if model.fed is None else "{} x {}".format(*model.fed.size),
        "small": model.fed is not None and max(model.fed.size) < _SEEN // 2,
    }


def _frame(size: tuple[int, int], feeding: Feeding) -> Document:
    """The part of the photo that is seen, in per cent of its sides."""
    left, top, right, bottom = (100 * min(1.0, max(0.0, share)) for share in seen_part(size, feeding))
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}


def _input(picture: Image.Image, feeding: Feeding) -> str:
    """The pixels that the network is given, before its mean and std."""
    seen = resize_and_crop(picture, feeding)
    if feeding.colour.startswith("GRAY"):
        seen = seen.convert("L")
    seen.thumbnail((_SEEN, _SEEN), Image.Resampling.LANCZOS)
    return _jpeg(seen)


def _jpeg(picture: Image.Image) -> str:
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=76, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def _same_pixels(a: Feeding | None, b: Feeding | None) -> bool:
    return a is not None and b is not None and a.geometry == b.geometry


def _why(best: Cause | None, pair: ModelPair, alike: bool) -> Document:
    """One sentence, and, where the line-up measured a cause, the share of the differing photos that it explains."""
    if best is not None and best.explains is not None and best.explains > 0:
        left = "none" if best.differ == 0 else f"{best.differ:,}"
        return {
            "share": best.explains,
            "text": f"Made alike in {best.cause}, they differ on {left} of these {pair.photos - pair.count:,} photos.",
        }
    if alike:
        return {"share": None, "text": "Both see the same pixels: the difference is inside the networks."}
    return {
        "share": None,
        "text": "They see other pixels of the same photo. How much of the difference that is, was not measured.",
    }


def _todo(
    comparison: Comparison, found: Explanation | None, best: Cause | None, models: list[ModelInfo], alike: bool
) -> Document:
    """What brings the two together, or shows where they part: a sentence, and a command or lines of a line-up."""
    a, b = models
    if found is not None and best is not None and best.explains is not None and best.explains >= 0.5:
        one, other = (comparison.spoken(name) for name in (found.a, found.b))
        text = f"{one}, made like {other} in {best.cause}, stands in this line-up as {best.model}: use its settings."
        return {"text": text, "command": ""}
    if alike:
        files = [model.file for model in models if model.file]
        if len(files) == len(models):
            text = "If one was made from the other, this names the first value that differs:"
            return {"text": text, "command": shlex.join(["coreproof", "verify", *files])}
        return {
            "text": "If one was made from the other, coreproof verify names the first value that differs.",
            "command": "",
        }
    lines = [f"[models.{b.name}]", f"feed = {{ {', '.join(_cut_as(a.fed, b.fed))} }}"] if a.fed and b.fed else []
    text = f"Cut the photos for {b.spoken} as they are cut for {a.spoken}, and compare again; what is left is not the crop."
    return {"text": f"{text} In the line-up:" if lines else text, "command": "\n".join(lines)}


def _cut_as(a: Feeding, b: Feeding) -> Iterator[str]:
    """How photos are cut for ``b`` as for ``a``, as a line-up says it: the size is the network's own, all else follows it."""
    yield f'resize = "{a.resize}"'
    if a.resize == "crop" and a.resize_to is not None:
        yield f"resize_to = {round(a.resize_to * min(b.size) / min(a.size))}"
    yield f'interpolation = "{a.interpolation}"'
