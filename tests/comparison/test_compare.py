"""compare from end to end on a tiny world: counts, skips, resuming, broken models, the store."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from PIL import Image

from coreproof.comparison import plan
from coreproof.comparison.compare import compare
from coreproof.comparison.lineup import Attribution, Lineup, LineupEntry
from coreproof.comparison.predictor import Predictor
from coreproof.comparison.variants import with_input_shape, with_partial_windows, with_weights_of
from coreproof.errors import InputError, LineupError, PhotoError
from coreproof.feeding.photos import list_photos
from coreproof.feeding.pictures import open_picture
from coreproof.feeding.predict import softmax
from coreproof.model.onnx.model import OnnxModel
from coreproof.report.page import page
from coreproof.runtime.images import to_tensor
from coreproof.runtime.open import session
from tests.build import FEEDING, classifier, conv_relu_onnx


def test_a_question_that_is_no_sql_is_bad_input(photos: Path) -> None:
    comparison = compare({"a": classifier(0)}, photos)
    for question in ("select nothing from predictions", "selec", "drop table predictions"):
        with pytest.raises(InputError, match="cannot be answered") as caught:
            comparison.query(question)
        assert "predictions(model, photo, skipped, probabilities)" in str(caught.value)
    assert comparison.query("") == []


def test_counts_are_those_of_the_models(photos: Path) -> None:
    models = {"a": classifier(0), "same": classifier(0), "near": classifier(0, 0.3), "other": classifier(1)}
    comparison = compare(models, photos)
    names = [f"p{k:02}.png" for k in range(12)]
    assert comparison.photos == tuple(names)
    assert list(comparison.skipped) == ["broken.jpg"]
    expected = {}
    for name, model in models.items():
        with session(model) as running:
            expected[name] = [
                softmax(running.run({"x": to_tensor(open_picture(photos / p), FEEDING)})["y"][0]) for p in names
            ]
    agreement = comparison.agreement()
    for a in models:
        for b in models:
            same = sum(int(np.argmax(p) == np.argmax(q)) for p, q in zip(expected[a], expected[b], strict=True))
            assert agreement[a][b] == same
            if a != b and same < 12:
                assert len(comparison.disagreements(a, b)) == 12 - same
    assert agreement["a"]["same"] == 12
    assert comparison.pair("other", "a") is comparison.pair("a", "other")
    right = sum(int(np.argmax(expected["a"][k]) == k % 6) for k in range(6))
    assert (comparison.accuracies["a"].top1, comparison.accuracies["a"].photos) == (right, 6)
    best, value = comparison.most_certain("a", 1)[0]
    assert value == pytest.approx(max(p.max() for p in expected["a"]), rel=1e-5)
    assert comparison.predictions("a", best)[0][1] == pytest.approx(value)


@pytest.mark.thorough
def test_an_interrupted_run_goes_on_where_it_was(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SLICES", ((1000, 4),))
    models = {"a": classifier(0), "b": classifier(1)}
    probabilities, calls = Predictor.probabilities, []

    def interrupted(self: Predictor, batch: list[np.ndarray]) -> object:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(len(batch))
        return probabilities(self, batch)

    monkeypatch.setattr(Predictor, "probabilities", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(models, photos, tmp_path / "store", workers=1)
    assert len(list((tmp_path / "store" / "slices").iterdir())) == 2
    assert not list((tmp_path / "store" / ".writing").iterdir())
    monkeypatch.setattr(Predictor, "probabilities", probabilities)
    seen: list[tuple[str, int, int]] = []
    resumed = compare(models, photos, tmp_path / "store", progress=lambda *said: seen.append(said))
    assert seen[0] == ("photos", 8, 13)
    undisturbed = compare(models, photos, tmp_path / "other", workers=1)
    assert resumed.to_json()["predictions"] == undisturbed.to_json()["predictions"]
    assert files(tmp_path / "store") == files(tmp_path / "other")


def files(store: Path) -> dict[str, bytes]:
    """Everything that a store keeps, but for how long it took."""
    paths = (path for path in store.rglob("*") if path.is_file())
    whole = {path.relative_to(store).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in whole.items() if not name.startswith(("timings/", ".writing/"))}


def test_other_photos_and_other_feedings_are_not_answered_from_the_store(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = compare({"a": classifier(0)}, photos, store)
    (photos / "p00.png").write_bytes((photos / "p01.png").read_bytes())
    changed = compare({"a": classifier(0)}, photos, store)
    assert changed.predictions("a", "p00.png") == first.predictions("a", "p01.png")
    other = compare({"a": classifier(0, 0.5)}, photos, store)
    assert other.predictions("a", "p00.png") != changed.predictions("a", "p00.png")


def test_the_store_answers_sql(photos: Path, tmp_path: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos, tmp_path / "it's a store")
    rows = comparison.query(
        "SELECT model, count(*) AS n, max(list_max(probabilities::FLOAT[])) AS top FROM predictions "
        "WHERE skipped IS NULL GROUP BY model ORDER BY model"
    )
    assert [(row["model"], row["n"]) for row in rows] == [("a", 12), ("b", 12)]
    assert rows[0]["top"] == pytest.approx(comparison.most_certain("a", 1)[0][1])


def test_labels_in_another_order_are_matched(photos: Path) -> None:
    names = tuple(f"class {k}" for k in range(6))
    model = classifier(0)
    shuffled = classifier(0, labels=tuple(names[k] for k in (3, 1, 0, 2, 5, 4)))
    weights = np.asarray(model.ir.graph.initializers["w"].const_value.numpy())  # type: ignore[union-attr]
    shuffled.ir.graph.initializers["w"].const_value = ir.Tensor(weights[:, [3, 1, 0, 2, 5, 4]].copy(), name="w")
    comparison = compare({"a": model, "b": shuffled}, photos)
    assert comparison.agreement()["a"]["b"] == 12
    assert comparison.pair("a", "b").divergence < 1e-6


def test_two_broken_models_do_not_agree(photos: Path) -> None:
    comparison = compare({"a": classifier(0), "x": classifier(0, np.nan), "y": classifier(0, np.nan)}, photos)
    assert comparison.agreement()["x"]["y"] == 0
    assert comparison.class_name(comparison.predictions("x", "p00.png")[0][0]) == "no answer"
    assert comparison.pair("x", "y").top5_overlap == 0


def half_broken(seed: int, above: float, instead: float) -> OnnxModel:
    """The tiny classifier with a softmax; all its answers are ``instead`` where a picture has a value above ``above``."""
    weights = ",".join(map(repr, np.random.default_rng(seed).normal(size=192 * 6).tolist()))
    odd = "n = Div(z, z)" if np.isnan(instead) else "n = Identity(z)"
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[1,3,8,8] x) => (float[1,6] y)
        <float[192,6] w = {{{weights}}}, float t = {{{above}}}, float z = {{0.0}}> {{
        f = Flatten(x) m = MatMul(f, w) s = Softmax(m) r = ReduceMax<keepdims=0>(x) b = Greater(r, t) {odd} y = Where(b, n, s)
        }}"""
    return OnnxModel(ir.from_proto(onnx.parser.parse_model(text)), name=f"half{seed}", feeding=FEEDING)


def bright_first(photos: Path) -> Path:
    """Photos of which the first is the only bright one."""
    Image.new("RGB", (8, 8), "white").save(photos / "a.png")
    return photos


def test_a_model_that_fails_the_first_photo_is_judged_by_the_next(photos: Path, tmp_path: Path) -> None:
    model = half_broken(0, 0.99, np.nan)
    comparison = compare({"a": model}, bright_first(photos), tmp_path / "store")
    assert not comparison.models[0].softmax
    with session(model) as running:
        seen = running.run({"x": to_tensor(open_picture(photos / "p00.png"), FEEDING)})["y"][0]
    assert comparison.predictions("a", "p00.png")[0][1] == pytest.approx(seen.max())
    assert comparison.class_name(comparison.predictions("a", "a.png")[0][0]) == "no answer"


def test_a_model_that_fails_every_photo_is_shown_a_few(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle, shown = Predictor.calibrate, []

    def counted(self: Predictor, photo: np.ndarray) -> object:
        shown.append(photo)
        return settle(self, photo)

    monkeypatch.setattr(Predictor, "calibrate", counted)
    monkeypatch.setattr(sys.modules["coreproof.comparison.compare"], "_SHOWN", 3)
    assert compare({"a": classifier(0, np.nan)}, photos).count == 12
    assert len(shown) == 3


def test_an_answer_of_zeros_is_none(photos: Path) -> None:
    comparison = compare({"a": half_broken(0, 0.99, 0.0), "b": half_broken(1, 0.99, 0.0)}, bright_first(photos))
    assert comparison.pair("a", "b").divergence <= 1
    assert comparison.most_divergent("a", "b", 1) == [("a.png", 1.0)]


def test_of_two_classes_no_other_is_named(photos: Path) -> None:
    comparison = compare({"a": classifier(0, classes=2), "b": classifier(1, classes=2)}, photos)
    assert {index for index, _ in comparison.predictions("a", "p00.png")} == {0, 1}


def test_a_truth_that_no_model_knows_is_not_judged(photos: Path) -> None:
    (photos / "labels.csv").write_text("file,class_index,synset,name\np00.png,6,n1,six\np01.png,5,n2,five\n")
    comparison = compare({"x": classifier(0, np.nan), "b": classifier(1)}, photos)
    assert (comparison.accuracies["x"].photos, comparison.accuracies["x"].top1) == (1, 0)
    assert comparison.truth == {"p01.png": 5}


@pytest.mark.parametrize("image", [False, True])
def test_what_is_made_from_a_model_is_fed_like_it(photos: Path, image: bool) -> None:
    """The line-up says nothing of a feeding: the model itself does."""
    made = LineupEntry("made", base="own", convert="mlprogram", precision="fp32", image=image)
    comparison = compare(Lineup((LineupEntry("own", classifier(0)), made)), photos)
    assert comparison.pair("own", "made").count == 12


def test_labels_of_an_entry_are_not_remembered(photos: Path, tmp_path: Path) -> None:
    (photos / "labels.csv").unlink()
    model = classifier(0)
    named = compare(Lineup((LineupEntry("a", model, labels=tuple("klmnop")),)), photos, tmp_path / "store")
    assert named.class_name(0) == "k"
    assert compare(Lineup((LineupEntry("a", model),)), photos, tmp_path / "store").class_name(0) == "class 0"


def test_models_that_explain_each_other_are_compared_all_the_same(photos: Path, tmp_path: Path) -> None:
    entries = tuple(LineupEntry(name, classifier(seed)) for seed, name in enumerate("abc"))
    why = tuple(Attribution(between, {"why": cause}) for between, cause in ((("a", "b"), "c"), (("b", "c"), "a")))
    assert page(compare(Lineup(entries, attributions=why), photos), tmp_path).is_file()


def test_causes_are_measured(photos: Path) -> None:
    entries = tuple(LineupEntry(n, m) for n, m in (("a", classifier(0)), ("b", classifier(1)), ("half", classifier(1))))
    lineup = Lineup(entries, attributions=(Attribution(("a", "b"), {"everything": "half"}),))
    found = compare(lineup, photos).explanations[0]
    assert found.differ > 0
    assert (found.causes[0].differ, found.causes[0].explains) == (0, 1.0)


def test_json_is_what_was_promised(photos: Path, tmp_path: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    stored = json.loads(comparison.save_json(tmp_path).read_text())
    assert stored["photos"] == 12
    assert stored["models"] == ["a", "b"]
    assert stored["agreement"]["a"] == comparison.agreement()["a"]
    index, probability = stored["predictions"]["a"]["p03.png"][0]
    assert isinstance(index, int)
    assert 0 < probability <= 1
    assert len(stored["predictions"]["a"]["p03.png"]) == 5


def test_folders_without_photos(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="no photos"):
        list_photos(tmp_path)
    with pytest.raises(PhotoError, match="no such folder"):
        list_photos(tmp_path / "absent")
    (tmp_path / "a.jpg").write_bytes(b"nonsense")
    with pytest.raises(PhotoError, match=r"none of the photos.*(\n.*)*a\.jpg"):
        compare({"a": classifier(0)}, tmp_path)


def test_weights_are_taken_over_only_from_the_same_network() -> None:
    changed = with_weights_of(classifier(0), classifier(0, 0.01))
    taken = changed.ir.graph.initializers["w"].const_value
    expected = classifier(0, 0.01).ir.graph.initializers["w"].const_value
    assert taken is not None
    assert expected is not None
    np.testing.assert_array_equal(taken.numpy(), expected.numpy())
    with pytest.raises(LineupError, match="does not hold the weights"):
        with_weights_of(classifier(0), classifier(1))


def test_another_input_shape_runs() -> None:
    wider = with_input_shape(OnnxModel(conv_relu_onnx(), name="net"), (1, 3, 9, 10))
    with session(wider) as running:
        assert running.run({"x": np.ones((1, 3, 9, 10), np.float32)})["y"].shape == (1, 4, 9, 10)


@pytest.mark.parametrize("size", [8, 9, 10, 11])
def test_partial_windows_are_those_of_pytorch(size: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    kind = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Value(name="x", type=kind, shape=ir.Shape([1, 2, size, size]))
    y = ir.Value(name="y", type=kind)
    attributes = [ir.AttrInt64s("kernel_shape", [3, 3]), ir.AttrInt64s("strides", [2, 2])]
    graph = ir.Graph(
        [x], [y], nodes=[ir.Node("", "MaxPool", [x], attributes, outputs=[y])], opset_imports={"": 8}, name="pool"
    )
    model = with_partial_windows(OnnxModel(ir.Model(graph, ir_version=4), name="pool"))
    values = np.random.default_rng(0).normal(size=(1, 2, size, size)).astype(np.float32)
    with session(model) as running:
        got = running.run({"x": values})["y"]
    expected = torch.nn.functional.max_pool2d(torch.from_numpy(values), 3, 2, ceil_mode=True).numpy()
    np.testing.assert_array_equal(got, expected)
