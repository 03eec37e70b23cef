"""``make demo``: proves EfficientNet-Lite0 on photos that Python packages ship, and writes build/demo/index.html."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from PIL import Image

from coreproof.cli.main import main

HERE = Path(__file__).parent
OUT = Path("build/demo")
SHIPPED = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "motorcycle_right")


def shipped_photos() -> dict[str, Image.Image]:
    """Real photos out of scikit-image and scikit-learn; those that are not installed are left out."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    folder = Path(skimage.data.__file__).parent
    photos = {}
    for name in SHIPPED:
        for suffix in (".png", ".jpg"):
            path = folder / f"{name}{suffix}"
            if path.is_file():
                photos[name] = Image.open(path).convert("RGB")
    samples = load_sample_images()
    for path, pixels in zip(samples.filenames, samples.images, strict=True):
        photos[Path(path).stem] = Image.fromarray(pixels)
    return photos


def crops(photo: Image.Image) -> dict[str, Image.Image]:
    """Seven views of one photo: models that only nearly agree part on some of them."""
    width, height = photo.size
    w, h = int(width * 0.7), int(height * 0.7)
    places = {
        "top-left": (0, 0),
        "top-right": (width - w, 0),
        "bottom-left": (0, height - h),
        "bottom-right": (width - w, height - h),
        "centre": ((width - w) // 2, (height - h) // 2),
    }
    views = {name: photo.crop((x, y, x + w, y + h)) for name, (x, y) in places.items()}
    return {"whole": photo, **views, "mirrored": photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)}


def write_photos(folder: Path) -> int:
    """Fills ``folder`` with the crops as JPEG files, and a labels.csv that says of which picture each is; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, photo in shipped_photos().items():
        for view, picture in crops(photo).items():
            file = f"{name}-{view}.jpg"
            picture.save(folder / file, quality=95)
            # two cameras on one scene are one piece of evidence
            pictures[file] = name.removesuffix("_left").removesuffix("_right")
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "picture"), *pictures.items()])
    return len(pictures)


if __name__ == "__main__":
    count = write_photos(OUT / "photos")
    print(f"{count} photos from scikit-image and scikit-learn in {OUT / 'photos'}")
    model = f"{HERE / 'efficientnet_lite0.py'}:model"
    sys.argv = ["coreproof", "prove", model, "--photos", str(OUT / "photos"), "--out", str(OUT)]
    main()
