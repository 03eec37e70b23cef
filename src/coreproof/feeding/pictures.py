"""Pictures of strangers are opened here and nowhere else: formats of a closed list, and no more pixels than allowed.

Pillow reads some fifty formats, and for a few of them starts other programs (PostScript is run by Ghostscript, whatever the
file is called). Only ``FORMATS`` reach it. What a header promises is believed up to ``max_pixels``, and is judged before any
of it is decoded.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from coreproof.errors import InputError, PhotoError
from coreproof.model.budget import max_pixels
from coreproof.model.files.paths import regular_file

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""The formats that are read, as Pillow calls them; AVIF where Pillow was built with it."""
_BYTES_PER_PIXEL = 16
"""What the widest of them stores uncompressed; a file with more bytes than that for every allowed pixel is none."""
_SCANS = 16
"""As often may all allowed pixels be refined by the scans of a progressive JPEG; each scan walks over all of the picture."""
_TILE = (322, 323)
"""TIFF's tags of a tile's width and height."""
_opening = threading.Lock()


def open_picture(path: str | Path, content: bytes | None = None) -> Image.Image:
    """Reads a picture of any mode as upright RGB (EXIF orientation applied, transparency laid over white).

    Grey of 16 bits is brought to 8; of an animation the first picture counts. ``content``: the file's bytes where they are
    at hand; ``path`` is then only its name. Raises PhotoError for a file that is not a picture of ``FORMATS``, is damaged,
    cut short, no ordinary file, or has more pixels than ``max_pixels``.
    """
    try:
        if content is None:
            require_picture_file(path)
        with (
            Path(path).open("rb") if content is None else BytesIO(content) as file,
            _opened(path, file) as stored,
        ):
            upright = ImageOps.exif_transpose(stored)
            upright.load()
        return _rgb(upright)
    except PhotoError:
        raise
    except UnidentifiedImageError:  # its text names an address in memory, which differs from run to run
        raise PhotoError(
            "the picture cannot be read",
            where=str(path),
            expected=f"one of {', '.join(_readable_formats())}",
            found="no kind of picture known here",
        ) from None
    except Exception as error:  # what decoders raise over damaged files has no common class
        found = str(error) or type(error).__name__
        raise PhotoError("the picture cannot be read", where=str(path), found=found) from None


def as_picture(given: object) -> Image.Image:
    """A picture as it is given, made of its pixels, or read from its file. Raises PhotoError, and InputError for what is none."""
    if isinstance(given, Image.Image):
        return given
    if isinstance(given, str | Path):
        return open_picture(given)
    array = given if isinstance(given, np.ndarray) else None
    if (
        array is not None
        and array.dtype == np.uint8
        and array.size
        and array.shape[2:] in ((), (3,))
        and array.ndim > 1
    ):
        return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    raise InputError(
        "this is no picture",
        expected="a file, a PIL image, or its pixels as uint8 [height, width, 3] or [height, width]",
        found=type(given).__name__ if array is None else f"an array of {array.dtype} {list(array.shape)}",
        fix=None
        if array is None
        else "what a model is fed as it is goes by its input's name: predict(model, {name: array})",
    )


def require_picture_file(path: str | Path) -> Path:
    """``path``, if an ordinary file stands there that is no larger than pictures are. Raises PhotoError."""
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        raise PhotoError("there is no such picture", where=str(path))
    regular_file(path, what="the picture", error=PhotoError)
    size, most = path.stat().st_size, _BYTES_PER_PIXEL * max_pixels()
    if size > most:
        raise PhotoError(
            "the file is larger than any picture of the pixels allowed",
            where=str(path),
            expected=f"at most {most:,} bytes",
            found=f"{size:,} bytes",
            fix=_FIX,
        )
    return path


_FIX = "if it is meant to be so large, allow it: --max-pixels 200M, or coreproof.set_max_pixels"


@contextmanager
def _opened(path: str | Path, file: IO[bytes]) -> Iterator[Image.Image]:
    """The picture with its header read and judged, and nothing decoded yet."""
    # as far as a WebP's header says its size
    start = file.read(30)
    file.seek(0)
    _judge(path, *_webp_size(start))  # its reader makes room for two canvases before it says how large they are
    with _opening:  # Pillow's own limit warns or raises, depending on the size; ours is said in our words
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=_readable_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    with picture:
        _judge(path, *picture.size)
        _judge(path, *_tile(picture), what="a tile of the picture")
        _judge_scans(path, picture, file)
        yield picture


@cache
def _readable_formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this Pillow reads."""
    Image.preinit()
    if any(name not in Image.OPEN for name in FORMATS):
        Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _judge(path: str | Path, width: int, height: int, what: str = "the picture") -> None:
    if width * height > max_pixels():
        raise PhotoError(
            f"{what} has more pixels than coreproof opens",
            where=str(path),
            expected=f"at most {max_pixels():,} pixels",
            found=f"{width:,} x {height:,} = {width * height:,}",
            fix=_FIX,
        )


def _webp_size(start: bytes) -> tuple[int, int]:
    """Width and height that a WebP's first bytes declare; (0, 0) for anything else."""
    if len(start) < 30 or start[:4] != b"RIFF" or start[8:12] != b"WEBP":
        return 0, 0
    kind = start[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(start[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        # VP8L: 14 bits each, less one; VP8: 14 bits each, the two above them are a scale
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", start[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _tile(picture: Image.Image) -> tuple[int, int]:
    """A TIFF's tile: it is decoded whole, however little of it the picture shows."""
    tags = getattr(picture, "tag_v2", None)
    sides = [] if tags is None else [tags.get(tag) for tag in _TILE]
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        return 0, 0
    return sides[0], sides[1]


def _judge_scans(path: str | Path, picture: Image.Image, file: IO[bytes]) -> None:
    """Refuses a progressive JPEG of so many scans that a small file keeps a decoder busy for minutes."""
    if not picture.info.get("progressive"):
        return
    at = file.tell()
    file.seek(0)
    # 0xFFDA begins a scan; inside of one, 0xFF is followed by 0x00 or is a restart marker (ITU-T T.81, B.1.1.5)
    scans = file.read().count(b"\xff\xda")
    file.seek(at)
    pixels = picture.width * picture.height
    if scans * pixels > _SCANS * max_pixels():
        raise PhotoError(
            "the picture is refined more often than coreproof follows",
            where=str(path),
            expected=f"at most {_SCANS * max_pixels() // pixels:,} scans of {pixels:,} pixels",
            found=f"{scans:,} scans",
            fix=_FIX,
        )


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # Pillow would cut off what is above 255: a white picture
        deep = np.asarray(picture, np.float32) / np.float32(257)
        return Image.fromarray(np.clip(np.rint(deep), 0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert("RGB")
