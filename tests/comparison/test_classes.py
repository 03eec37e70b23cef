"""Labels matched by index and by text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.comparison.classes import match_classes, synonyms
from coreproof.comparison.compare import compare
from coreproof.errors import LineupError
from tests.build import classifier

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


def test_answers_are_called_as_the_models_call_them_where_the_photos_show_classes_of_another_network(
    photos: Path,
) -> None:
    """labels.csv of ImageNet beside photos for a network of two classes: its "cat" was called "tench"."""
    rows = ["p00.png,0,tench", "p01.png,970,alp", "p02.png,985,daisy"]
    (photos / "labels.csv").write_text("\n".join(["file,class_index,name", *rows]))
    own = ("cat", "dog")
    found = compare({name: classifier(0, labels=own, classes=2) for name in ("a", "b")}, photos)
    assert [found.class_names[index] for index in (0, 1)] == ["cat", "dog"]
    said = "by index (none of its labels is known by text: class 0 is 'cat' to it, and 'tench' elsewhere)"
    assert found.models[0].classes.startswith(said)
    assert "2 classes that the photos show are none of its 2" in found.models[0].classes
    told = next(weakness for weakness in found.weaknesses if weakness.kind == "labels")
    assert told.text == "'a' names classes otherwise ('cat' for 'tench'): matched by their places alone"
    assert not told.fails, "in another language that is as it should be"


def test_models_without_a_label_in_common_are_told(photos: Path) -> None:
    """A network of other classes beside the others: its "dog" was silently their "tulip"."""
    models = {"flowers": classifier(0, labels=("rose", "tulip"), classes=2)}
    models["animals"] = classifier(1, labels=("cat", "dog"), classes=2)
    (photos / "labels.csv").unlink()
    text = next(weakness for weakness in compare(models, photos).weaknesses if weakness.kind == "labels").text
    assert text == "'animals' names classes otherwise ('cat' for 'rose'): matched by their places alone"


def test_names_that_are_known_by_text_stay_those_of_the_photos(photos: Path) -> None:
    (photos / "labels.csv").write_text("file,class_index,name\np00.png,0,tench\np01.png,1,goldfish\n")
    found = compare({"a": classifier(0, labels=("n01440764 tench, Tinca tinca", "gold", "x"), classes=3)}, photos)
    assert [found.class_names[index] for index in range(3)] == ["tench", "goldfish", "x"]
    assert "none of its" not in found.models[0].classes
    assert "labels" not in [weakness.kind for weakness in found.weaknesses]
