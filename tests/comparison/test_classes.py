"""Labels matched by index and by text."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.comparison.classes import match_classes, synonyms
from coreproof.errors import LineupError

NAMES = dict(enumerate(["tench", "goldfish", "great white shark", "crane", "lathe", "crane"]))


def test_labels_are_normalised() -> None:
    assert synonyms("n01440764 Tench, Tinca_tinca") == {"tench", "tinca tinca"}


def test_labels_at_their_own_index_confirm_the_order() -> None:
    own = ["tench, Tinca tinca", "goldfish", "white shark, great white shark", "crane", "something else", "crane"]
    order = match_classes("m", own, 6, NAMES)
    assert order.positions.tolist() == list(range(6))
    assert order.text == "5 of 6 labels found by text, all at their own index; 1 by index"


def test_another_order_is_undone() -> None:
    own = ["goldfish", "lathe", "tench", "great white shark"]
    order = match_classes("m", own, 4, {0: "tench", 1: "goldfish", 2: "great white shark", 3: "lathe"})
    probabilities = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    assert order.arrange(probabilities, 4) == pytest.approx(np.array([[0.3, 0.1, 0.4, 0.2]]))


def test_a_background_class_first_is_seen() -> None:
    order = match_classes("m", ["background", "tench", "goldfish"], 3, {0: "tench", 1: "goldfish"})
    assert order.positions.tolist() == [2, 0, 1]


def test_one_label_elsewhere_is_no_order() -> None:
    with pytest.raises(LineupError, match="cat, bird"):
        match_classes("m", ["cat", "tench", "bird"], 3, {0: "tench"})


def test_labels_are_as_many_as_classes() -> None:
    with pytest.raises(LineupError, match="6 classes and 2 labels"):
        match_classes("m", ["tench", "goldfish"], 6, NAMES)
    with pytest.raises(LineupError, match="1 classes and 2 labels"):
        match_classes("m", ["tench", "goldfish"], 1, {})


def test_another_order_with_strangers_is_refused() -> None:
    with pytest.raises(LineupError, match="stranger"):
        match_classes("m", ["goldfish", "tench", "stranger"], 3, NAMES)


def test_without_text_the_index_decides() -> None:
    assert match_classes("m", None, 3, NAMES).text == "by index"
    assert match_classes("m", ["a", "b"], 2, NAMES).positions.tolist() == [0, 1]
