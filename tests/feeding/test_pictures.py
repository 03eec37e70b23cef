"""Pictures of strangers: formats of the list only, pixels judged before memory is taken, files only."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

import coreproof
from coreproof.errors import InputError, PhotoError
from coreproof.feeding.pictures import FORMATS, open_picture
from coreproof.model.budget import PIXELS_ENVIRONMENT, max_pixels, set_max_pixels


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIXELS_ENVIRONMENT, "")


def saved(kind: str, size: tuple[int, int] = (5, 4), mode: str = "RGB", **settings: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, "red" if mode == "RGB" else 0).save(file, kind, **settings)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_of_the_list_is_read(kind: str) -> None:
    if kind not in Image.SAVE and kind == "AVIF":
        pytest.skip("this Pillow writes no AVIF")
    assert open_picture("a", saved(kind)).size == (5, 4)


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PCX", "TGA", "SGI", "PDF", "SPIDER", "MSP", "DDS", "ICNS"])
def test_no_other_format_reaches_pillow(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"ICNS": ("RGBA", (16, 16)), "MSP": ("1", (8, 8)), "SPIDER": ("F", (8, 8))}
    mode, size = settings.get(kind, ("RGB", (8, 8)))
    content = saved(kind, size, mode)
    (tmp_path / "a.jpg").write_bytes(content)
    for given in (None, content):
        with pytest.raises(PhotoError, match="no kind of picture known here"):
            open_picture(tmp_path / "a.jpg", given)


def test_postscript_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object, **settings: object) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr("subprocess.Popen", start)
    monkeypatch.setattr("subprocess.check_call", start)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(%pipe%touch evil) (w) file\n%%EOF\n"
    for name in ("a.jpg", "a.eps", "a.png"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PhotoError, match="no kind of picture"):
            open_picture(tmp_path / name)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(16)
    else:
        body = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(16)
    inner = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inner)) + inner + bytes(8)


def gif(width: int, height: int, frame: tuple[int, int]) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
        + b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00\x3b"
    )  # fmt: skip


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 14 + len(header), 0, 0, 54) + header


def tiff(width: int, height: int, tile: tuple[int, int] | None = None) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, tile[0]), (323, tile[1]), (324, 8), (325, 8)] if tile else [(273, 8), (278, height), (279, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


BOMBS = {
    "png": png(2**31 - 1, 2**31 - 1),
    "small png": png(8_001, 8_000),
    "webp, extended": webp(b"VP8X", 2**24, 2**24),
    "webp, lossless": webp(b"VP8L", 16_383, 16_383),
    "webp, lossy": webp(b"VP8 ", 16_383, 16_383),
    "gif": gif(65_535, 65_535, (1, 1)),
    "gif, frame": gif(1, 1, (65_535, 65_535)),
    "bmp": bmp(2**31 - 1, 2**30),
    "tiff": tiff(2**31, 2**31),
    "tiff, tile": tiff(8, 8, (65_536, 65_536)),
    "ppm": b"P6 99999 99999 255\n",
    "jpeg": saved("JPEG").replace(b"\xff\xc0\x00\x11\x08\x00\x04\x00\x05", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_more_pixels_than_allowed_are_refused_by_name_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    import resource

    (tmp_path / "bomb.jpg").write_bytes(BOMBS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for given in (None, BOMBS[name]):
        with pytest.raises(PhotoError, match="has more pixels than coreproof opens") as error:
            open_picture(tmp_path / "bomb.jpg", given)
        assert error.value.where == str(tmp_path / "bomb.jpg")
        assert "64,000,000" in str(error.value.expected)
        assert "--max-pixels" in str(error.value.fix)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, "kilobytes; a picture of 64 million pixels takes 190,000 and more"


def test_a_progressive_picture_of_a_thousand_scans_is_refused() -> None:
    content = saved("JPEG", (4_000, 4_000), "L", progressive=True)
    start = content.index(b"\xff\xda")
    scan = content[start : content.index(b"\xff", start + 2)] + b"\xff\x00"
    with pytest.raises(PhotoError, match="refined more often") as error:
        open_picture("a.jpg", content[:start] + scan * 1000 + content[start:])
    assert "scans" in str(error.value.found)
    assert open_picture("a.jpg", content).size == (4_000, 4_000)


def test_the_limit_is_raised_by_a_number_or_a_text() -> None:
    content = png(8_001, 8_000)
    set_max_pixels("100M")
    assert max_pixels() == 100_000_000
    with pytest.raises(PhotoError) as error:
        open_picture("a.png", content)
    assert "more pixels" not in str(error.value), "it is cut short, and that is what is wrong with it now"
    coreproof.set_max_pixels(10)
    with pytest.raises(PhotoError, match="more pixels"):
        open_picture("a.png", saved("PNG"))
    for wrong in ("", "0", "-3", "many", "1e9"):
        with pytest.raises(InputError, match="number of pixels"):
            set_max_pixels(wrong)


def test_a_picture_beyond_pillows_own_limit_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_picture("a.png", saved("PNG", (40, 40))).size == (40, 40)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_is_cut_short_is_refused_or_read(kind: str) -> None:
    if kind not in Image.SAVE:
        pytest.skip("this Pillow does not write it")
    content = saved(kind, (40, 30))
    for end in range(0, len(content), max(1, len(content) // 40)):
        with contextlib.suppress(PhotoError):  # anything else it may not raise
            assert open_picture("a", content[:end]).size[0] > 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes as files here")
def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "none")
    for name, found in (("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device")):
        with pytest.raises(PhotoError, match="not an ordinary file") as error:
            open_picture(tmp_path / f"{name}.jpg")
        assert error.value.found == found
    with pytest.raises(PhotoError, match="cannot be read"):
        open_picture(tmp_path / "nowhere.jpg")


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(20 * 10**9)  # takes no room on the disk
    with pytest.raises(PhotoError, match="larger than any picture"):
        open_picture(tmp_path / "a.jpg")


def test_nothing_else_opens_pictures() -> None:
    package = Path(coreproof.__file__).parent
    opening = [p.name for p in package.rglob("*.py") if "Image.open(" in p.read_text(encoding="utf-8")]
    assert opening == ["pictures.py"]
