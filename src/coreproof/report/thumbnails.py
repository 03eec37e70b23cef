"""Photos as small pictures that a page carries inside itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from coreproof.comparison.source import PhotoSource, photo_source
from coreproof.errors import PhotoError
from coreproof.feeding.pictures import open_picture

SIDE = 176
"""Longer side in pixels: sharp at 88 CSS pixels on a phone, about 5 kB each."""
_BUDGET = 3_300_000
"""Characters of all thumbnails together; photos beyond it are shown by name."""


def thumbnails(photos: PhotoSource | Path | str, names: Iterable[str], budget: int = _BUDGET) -> dict[str, str]:
    """Data URIs by photo name, in the order given until ``budget`` characters are spent; unreadable photos are left out."""
    budget = min(budget, _BUDGET)
    made: dict[str, str] = {}
    spent = 0
    source = photo_source(photos)
    # Pillow lets go of the interpreter's lock while it decodes
    with ThreadPoolExecutor(2, thread_name_prefix="thumbnail") as pool:
        wanted = list(dict.fromkeys(names))
        # in pieces: what lies beyond the budget is not read at all
        for start in range(0, len(wanted), 64):
            piece = wanted[start : start + 64]
            for name, uri in zip(piece, pool.map(lambda n: _thumbnail(source, n), piece), strict=True):
                if uri is not None and spent + len(uri) <= budget:
                    made[name] = uri
                    spent += len(uri)
            if spent >= budget * 0.98:
                break
    return made


def _thumbnail(source: PhotoSource, name: str) -> str | None:
    made = jpeg(source, name, SIDE)
    return None if made is None else "data:image/jpeg;base64," + base64.b64encode(made).decode()


def jpeg(source: PhotoSource, name: str, side: int) -> bytes | None:
    """A photo as a JPEG file whose longer side has so many pixels at most; None for one that cannot be read."""
    try:
        picture = open_picture(name, source.read(name))
    except PhotoError:
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=68, optimize=True)
    return written.getvalue()
