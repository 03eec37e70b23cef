"""Pictures of every kind become what the model's feeding says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coreproof.errors import InputError, MissingDependencyError, PhotoError
from coreproof.feeding.pictures import open_picture
from coreproof.model.features import ImageLayout
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import pixels, resize_and_crop, seen_part, to_picture, to_tensor


def gradient(mode: str = "RGB") -> Image.Image:
    ramp = np.linspace(0, 255, 40 * 30).reshape(30, 40).astype(np.uint8)
    return Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    gradient(mode).save(path)
    picture = open_picture(path)
    assert picture.mode == "RGB"
    assert picture.size == (40, 30)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient().save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (30, 40)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_grey_of_16_bits_is_not_cut_off(tmp_path: Path, name: str) -> None:
    deep = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    seen = np.asarray(open_picture(tmp_path / name))[..., 0]
    np.testing.assert_allclose(seen, deep / 257, atol=0.51)


def test_whatever_a_decoder_raises_is_said_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow 12 raises RuntimeError for damaged AVIF, struct.error and TypeError for damaged EXIF
    def damaged(self: Image.Image, *_: object) -> None:
        raise RuntimeError("Decoding of color planes failed")

    gradient().save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "convert", damaged)
    with pytest.raises(PhotoError, match="color planes"):
        open_picture(tmp_path / "a.png")


def test_the_reason_is_the_same_in_every_run() -> None:
    with pytest.raises(PhotoError) as first:
        open_picture("a.jpg", b"no picture")
    assert "0x" not in str(first.value)


@pytest.mark.parametrize("size", [(4000, 31), (31, 4000), (7, 60_001)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_a_strip_is_cropped_without_scaling_all_of_it(
    size: tuple[int, int], interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(80, 175, (size[1], size[0], 3), dtype=np.uint8)
    feeding = Feeding(size=(20, 20), resize_to=23, interpolation=interpolation)  # type: ignore[arg-type]
    whole = np.asarray(resize_and_crop(Image.fromarray(noise), feeding), np.int16)
    monkeypatch.setattr("coreproof.runtime.images._LARGEST", 0)
    np.testing.assert_allclose(np.asarray(resize_and_crop(Image.fromarray(noise), feeding), np.int16), whole, atol=1)


def test_a_strip_takes_no_more_memory_than_its_crop() -> None:
    assert resize_and_crop(Image.new("RGB", (65_000, 1)), Feeding(resize_to=256)).size == (224, 224)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_broken_picture_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.jpg"
    gradient().save(path)
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(PhotoError, match=r"broken\.jpg"):
        open_picture(path)


def test_crop_is_centred() -> None:
    picture = Image.new("RGB", (300, 200), "black")
    picture.paste("white", (100, 50, 200, 150))
    seen = resize_and_crop(picture, Feeding(size=(100, 100), resize_to=200))
    assert seen.size == (100, 100)
    assert np.asarray(seen).min() == 255


@pytest.mark.parametrize("size", [(40, 31), (31, 40), (301, 200), (33, 33)])
def test_crops_as_torchvision_does(size: tuple[int, int]) -> None:
    from coreproof.model.torch.model import import_torchvision

    try:
        import_torchvision()
    except MissingDependencyError:
        pytest.skip("torchvision is not installed")
    from torchvision.transforms import functional

    picture = gradient().resize(size)
    expected = functional.center_crop(functional.resize(picture, 28), [24, 24])
    seen = resize_and_crop(picture, Feeding(size=(24, 24), resize_to=28))
    np.testing.assert_array_equal(np.asarray(seen), np.asarray(expected))


def test_squash_keeps_nothing_out() -> None:
    picture = Image.new("RGB", (300, 200), "black")
    picture.paste("white", (0, 0, 30, 200))
    seen = np.asarray(resize_and_crop(picture, Feeding(size=(100, 100), resize="squash", interpolation="nearest")))
    assert (seen[:, :10] == 255).all()
    assert (seen[:, 10:] == 0).all()


def test_normalisation_is_torchvisions() -> None:
    feeding = Feeding(size=(40, 30), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    expected = (np.asarray(gradient(), np.float64) / 255 - feeding.mean) / feeding.std
    np.testing.assert_allclose(to_tensor(gradient(), feeding)[0], expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_bgr_is_rgb_backwards() -> None:
    np.testing.assert_array_equal(pixels(gradient(), "BGR")[:, ::-1], pixels(gradient(), "RGB"))


@pytest.mark.parametrize("colour", ["RGB", "BGR", "GRAY"])
def test_a_picture_survives_the_way_there_and_back(colour: str) -> None:
    picture = gradient("L" if colour == "GRAY" else "RGB")
    back = to_picture(pixels(picture, colour), ImageLayout(40, 30, colour))
    np.testing.assert_array_equal(np.asarray(back.convert(picture.mode)), np.asarray(picture))


@pytest.mark.parametrize(
    ("name", "colour", "count"), [("mean", "RGB", 4), ("std", "GRAY", 3), ("std", "BGR", 2), ("mean", "RGB", 0)]
)
def test_a_mean_or_std_of_other_channels_is_told_with_both_counts(name: str, colour: Any, count: int) -> None:
    with pytest.raises(InputError, match=rf"{name} does not fit(.|\n)*expected: 1 number(.|\n)*found: {count} numbers"):
        Feeding(size=(4, 4), colour=colour, **{name: (0.5,) * count})


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (320, 320)])
@pytest.mark.parametrize(
    "feeding",
    [
        Feeding(size=(100, 80), resize="squash"),
        Feeding(size=(64, 64)),
        Feeding(size=(64, 48), resize_to=80),
        Feeding(size=(96, 96), resize_to=60),
    ],
)
def test_the_part_that_is_seen_is_the_part_that_is_fed(size: tuple[int, int], feeding: Feeding) -> None:
    """A picture whose pixels say where they stand: what is fed begins and ends where seen_part says."""
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in (x, y)]
    left, top, right, bottom = seen_part(size, feeding)
    for plane, low, high, axis in ((planes[0], left, right, 1), (planes[1], top, bottom, 0)):
        fed = np.asarray(resize_and_crop(plane, feeding))
        steps = fed.shape[axis]
        centres = low + (np.arange(steps) + 0.5) * (high - low) / steps
        line = fed.mean(axis=1 - axis)
        inner = (centres > 0.03) & (centres < 0.97)
        if (low, high) == (max(low, 0), min(high, 1)):
            np.testing.assert_allclose(line[inner], centres[inner], atol=0.003)
        else:  # beyond the picture there is black
            assert fed.min() == 0
