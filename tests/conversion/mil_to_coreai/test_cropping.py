"""crop_resize in Core AI where a box ends before it begins, by the values of Apple's own tests; the other forms are trials."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.mil_to_coreai.convert import translated
from coreproof.model.coreai.model import CoreAIModel
from coreproof.runtime.open import session
from tests.build import mil

X = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)


@pytest.mark.parametrize("is_fed", [False, True])
@pytest.mark.parametrize(
    ("mode", "box", "pad", "expected"),
    [
        # of columns 5.4 and 0.9, the first lies beyond the last one, 3
        ("ALIGN_CORNERS", [0.5, 1.8, 1, 0.3], 10.0, [[10, 7.9], [10, 13.9]]),
        ("UNALIGN_CORNERS", [2, 2, 1, 1], 0.0, [[3.5, 5.5], [11.5, 13.5]]),
    ],
    ids=["a mirrored crop", "the whole image"],
)
def test_a_box_that_ends_before_it_begins(
    tmp_path: Path, mode: str, box: list[float], pad: float, expected: list[list[float]], is_fed: bool
) -> None:
    boxes = np.array([box], np.float32)

    def crop(mb: Any, a: Any, *fed: Any) -> Any:
        return mb.crop_resize(
            x=a, boxes=fed[0] if fed else boxes, box_indices=np.zeros(1, np.int32), target_height=2, target_width=2,
            normalized_coordinates=True, sampling_mode=mode, pad_value=pad,
        )  # fmt: skip

    shapes = [X.shape, boxes.shape] if is_fed else [X.shape]
    model = mil(tmp_path, crop, *shapes, target="iOS17")
    with session(CoreAIModel(translated(model), name="crop")) as running:
        found = running.run({"a": X, "b": boxes} if is_fed else {"a": X})
    (made,) = found.values()
    np.testing.assert_allclose(np.asarray(made)[0, 0], expected, rtol=1e-5)
