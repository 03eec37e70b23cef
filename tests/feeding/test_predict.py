"""The top classes of a model: their order, and labels that have to fit them."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.errors import InputError
from coreproof.feeding.predict import top_classes


def test_equal_classes_come_in_their_order() -> None:
    found = top_classes(np.array([0.2, 0.4, 0.4]), ("a", "b", "c"), 2)
    assert [(p.index, p.label) for p in found] == [(1, "b"), (2, "c")]


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c", "d")])
def test_labels_that_do_not_fit_are_told_with_both_counts(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=rf"expected: 3 labels(.|\n)*found: {len(labels)} labels"):
        top_classes(np.array([0.2, 0.4, 0.4]), labels, 1)
