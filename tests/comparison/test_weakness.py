"""Agreement over photos that shows little is called that, and crops of one picture are one picture in every interval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from coreproof.comparison.agreement import wilson
from coreproof.comparison.compare import compare
from coreproof.comparison.comparison import Comparison
from coreproof.errors import PhotoError
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.weakness import failing
from coreproof.report.data import comparison_verdict
from coreproof.report.page import page
from tests.build import FEEDING, classifier


def biased(seed: int, favourite: int = 2) -> OnnxModel:
    """A classifier that names one class whatever it sees."""
    model = classifier(seed)
    bias = np.zeros(6, np.float32)
    bias[favourite] = 1e4
    graph = model.ir.graph
    last = graph.outputs[0]
    added = ir.Value(name="b", type=last.type, shape=ir.Shape([6]), const_value=ir.Tensor(bias, name="b"))
    graph.initializers["b"] = added
    end = ir.Value(name="z", type=last.type, shape=last.shape)
    graph.append(ir.Node("", "Add", [last, added], outputs=[end]))
    graph.outputs[0] = end
    return OnnxModel(model.ir, name=f"biased{seed}", feeding=FEEDING)


def kinds(found: Comparison) -> list[str]:
    return [weakness.kind for weakness in found.weaknesses]


def test_one_class_on_every_photo_shows_nothing_and_leaves_kappa_undefined(photos: Path, tmp_path: Path) -> None:
    found = compare({"a": biased(0), "b": biased(1)}, photos)
    assert found.pair("a", "b").count == found.count == 12
    assert [w.kind for w in failing(found.weaknesses)] == ["one-class"]
    verdict = comparison_verdict(found)
    assert verdict["state"] == "weak"
    assert "but that proves little: 'class 2' is the only class" in verdict["text"]
    pair = found.pair("a", "b")
    assert np.isnan(pair.kappa)
    assert pair.undefined == {"kappa": "both models name one class on every photo"}
    written = page(found, tmp_path / "out").read_text()
    assert ">undefined</span>" in written
    assert "proves little" in written
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert document["pairs"][0]["kappa"] is None
    assert document["pairs"][0]["undefined"] == pair.undefined
    assert document["weaknesses"][0]["fails"]


def test_a_model_that_always_says_the_same_is_told_among_others(photos: Path) -> None:
    found = compare({"a": classifier(0, classes=6), "b": classifier(5, noise=0.0), "c": biased(1)}, photos)
    if len(np.flatnonzero(found.tally.models["a"].named)) > 1:
        assert not failing(found.weaknesses)
    assert "one-class" in kinds(found)


def test_few_pictures_and_random_weights_are_said(photos: Path) -> None:
    model = classifier(0)
    model.untrained = True
    found = compare({"a": model, "b": classifier(0)}, photos)
    assert {"untrained", "few-samples"} <= set(kinds(found))
    assert next(w for w in found.weaknesses if w.kind == "untrained").values == ("a",)
    assert "untrained weights" in comparison_verdict(found)["text"]


@pytest.mark.parametrize("shift", [0, 1])
def test_models_that_agree_and_are_never_right_are_asked_for_their_feeding(photos: Path, shift: int) -> None:
    first = compare({"a": classifier(5, noise=0.0)}, photos).everything.top[:, 0, 0]
    labelled(photos, [f"p{k:02}.png,{(named + shift) % 6}" for k, named in enumerate(first)], "file,class_index")
    found = compare({"a": classifier(5, noise=0.0), "b": classifier(5, noise=0.0)}, photos)
    assert ("chance" in kinds(found)) == bool(shift)
    said = (
        "'a', 'b' are right on 0 of 12 photos, no more than a guess among 6 classes: check the feeding and the labels"
    )
    assert (said in comparison_verdict(found)["text"]) == bool(shift)


@pytest.mark.parametrize("told", [9, 10])
def test_few_known_classes_may_be_missed_by_bad_luck(photos: Path, told: int) -> None:
    first = compare({"a": classifier(0)}, photos).everything.top[:told, 0, 0]
    labelled(photos, [f"p{k:02}.png,{(named + 1) % 6}" for k, named in enumerate(first)], "file,class_index")
    assert ("chance" in kinds(compare({"a": classifier(0)}, photos))) == (told == 10)


def test_untrained_weights_are_said_once_and_not_as_guessing_too(photos: Path) -> None:
    first = compare({"a": classifier(0)}, photos).everything.top[:, 0, 0]
    labelled(photos, [f"p{k:02}.png,{(named + 1) % 6}" for k, named in enumerate(first)], "file,class_index")
    model = classifier(0)
    model.untrained = True
    assert "chance" not in kinds(compare({"a": model}, photos))


def test_random_weights_are_known_when_the_predictions_are_read_from_the_store(photos: Path, tmp_path: Path) -> None:
    model = classifier(0)
    model.untrained = True
    for _ in range(2):
        assert "untrained" in kinds(compare({"a": model}, photos, tmp_path / "store"))


def labelled(photos: Path, rows: list[str], heading: str = "file,picture") -> None:
    (photos / "labels.csv").write_text("\n".join([heading, *rows]))


def test_crops_of_a_picture_are_one_picture_in_every_interval(photos: Path, tmp_path: Path) -> None:
    labelled(photos, [f"p{k:02}.png,scene{k // 4}" for k in range(12)])
    found = compare({"a": classifier(0), "b": classifier(0)}, photos, tmp_path / "store")
    assert (found.count, found.pictures) == (12, 3)
    pair = found.pair("a", "b")
    assert (pair.low, pair.high) == pytest.approx(wilson(3, 3))
    assert found.to_json()["pictures"] == 3
    assert "only 3 pictures, of which the 12 photos are crops" in comparison_verdict(found)["text"]
    # the same predictions, told otherwise
    labelled(photos, [f"p{k:02}.png,scene{k // 6}" for k in range(12)])
    pair = compare({"a": classifier(0), "b": classifier(0)}, photos, tmp_path / "store").pair("a", "b")
    assert (pair.low, pair.high) == pytest.approx(wilson(2, 2))


def test_photos_without_a_picture_are_their_own_and_accuracy_counts_pictures_too(photos: Path) -> None:
    rows = [f"p{k:02}.png,{k % 6},{'one' if k < 4 else ''}" for k in range(6)]
    labelled(photos, rows, "file,class_index,picture")
    found = compare({"a": classifier(0), "b": classifier(1)}, photos)
    assert found.pictures == 9
    ranks = found.everything.ranks[:6, 0]
    weights = np.array([0.25] * 4 + [1.0] * 2)
    accuracy = found.accuracies["a"]
    assert accuracy.photos == 6
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson(weights[ranks == 0].sum(), 3))
    top = found.everything.top[:, :, 0]
    same = top[:, 0] == top[:, 1]
    every = np.array([0.25] * 4 + [1.0] * 8)
    assert (found.pair("a", "b").low, found.pair("a", "b").high) == pytest.approx(wilson(every[same].sum(), 9))


def test_crops_that_are_gone_do_not_count(photos: Path) -> None:
    labelled(photos, [f"p{k:02}.png,scene{k // 4}" for k in range(12)])
    for k in (0, 1, 2, 3, 4):
        (photos / f"p{k:02}.png").unlink()
    assert compare({"a": classifier(0)}, photos).pictures == 2


def test_a_class_is_needed_where_no_picture_is_told(photos: Path) -> None:
    labelled(photos, ["p00.png,,one", "p01.png,,"], "file,class_index,picture")
    with pytest.raises(PhotoError, match="line 3"):
        compare({"a": classifier(0)}, photos)
    labelled(photos, ["p00.png,1"], "file,synset")
    with pytest.raises(PhotoError, match="picture"):
        compare({"a": classifier(0)}, photos)


def test_a_single_picture_is_few_and_not_one_class_throughout(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (200, 30, 30)).save(tmp_path / "only.png")
    found = compare({"a": classifier(0), "b": classifier(0)}, tmp_path)
    assert not failing(found.weaknesses)
    assert "few-samples" in kinds(found)
