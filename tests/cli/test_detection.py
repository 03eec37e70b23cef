"""``coreproof convert --detection`` as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import coreproof as cp
from tests.cli.conftest import Ran
from tests.conversion.onnx_to_coreml.test_detection import detector

Run = Callable[..., Ran]


def test_a_detector_is_made_shown_and_asked(tmp_path: Path, coreproof: Run) -> None:
    model, out, names, picture = (tmp_path / n for n in ("d.onnx", "d.mlpackage", "names.txt", "p.png"))
    detector("yolov8").save(model)
    names.write_text("cat\ndog\nowl\n")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(picture)
    asked = (
        "convert",
        model,
        out,
        "--image",
        "--scale",
        "1/255",
        "--labels",
        names,
        "--detection",
        "yolov8:output=out:confidence=0.5",
    )
    done = coreproof(*asked)
    assert done.code == 0, done.err
    assert "keeps those that the definition keeps" in done.out
    assert [f.name for f in cp.load(out).signature.outputs] == ["confidence", "coordinates"]
    found = coreproof("predict", out, picture)
    assert found.code == 0, found.err
    assert "owl" in found.out
    wrong = coreproof(*asked[:-1], "yolov9000", "--replace")
    assert wrong.code == 2
    assert "is not understood" in wrong.err
