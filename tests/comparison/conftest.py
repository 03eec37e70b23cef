"""A tiny world for the classifiers of 8x8 pictures: pictures of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photos of noise; two files that are no pictures, one of them named like one; labels for six."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for k in range(12):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(folder / f"p{k:02}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    (folder / "notes.txt").write_text("not a picture")
    lines = ["file,class_index,synset,name"] + [f"p{k:02}.png,{k % 6},n0000000{k},class_{k % 6}" for k in range(6)]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder
