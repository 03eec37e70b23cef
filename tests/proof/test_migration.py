"""migrate: a Core ML model carried over to Core AI, verified on both engines, with a page; or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.mil_to_coreai.left_behind import LeftBehind
from coreproof.conversion.onnx_to_coreml.features import ImageInput
from coreproof.errors import (
    ConversionError,
    InputError,
    MissingDependencyError,
    OutputExistsError,
    UnsupportedOperatorsError,
)
from coreproof.model.coreai import child
from coreproof.proof.document import Proof
from coreproof.proof.migration import STAYS, stays
from tests.aimodels import needs_coreai
from tests.build import mil
from tests.build.programs import counter
from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof
from tests.cli.test_replacing import network

RNG = np.random.default_rng(5)


def picture(folder: Path) -> Path:
    """A classifier of pictures, half width, as an app takes it."""
    path = folder / "old.mlpackage"
    labels = [f"class {at}" for at in range(5)]
    made = cp.convert(network(folder / "net.onnx"), "mlprogram", images={"x": ImageInput(scale=0.01)}, labels=labels)
    return made.save(path)


def said(proof: Proof) -> dict[str, bool | None]:
    return {step.candidate or step.name: step.ok for step in proof.steps if step.kind in ("verify", "convert")}


@needs_coreai
def test_a_program_is_the_same_on_both_engines_and_over_photos(photos: Path, tmp_path: Path) -> None:
    old, new = picture(tmp_path), tmp_path / "new.aimodel"
    proof = cp.migrate(old, new, photos=photos, samples=2)
    assert proof.agrees
    assert [step.kind for step in proof.steps] == ["obtain", "check", "check", "convert", "verify", "verify", "compare"]
    ours, apples = (step.verification for step in proof.steps if step.kind == "verify")
    assert ours is not None
    assert apples is not None
    # the interpreter is held against the source value by value, and not only at its end
    assert {row.candidate for row in apples.rows} == {row.candidate for row in ours.rows}
    assert apples.engines[1] == "Apple's Core AI interpreter"
    assert len(apples.rows) > 3
    assert proof.comparison is not None
    assert proof.comparison.names == ("cml", "c2a")
    # what lies there is what was verified
    assert cp.verify(old, new).agrees
    page = (tmp_path / "new-proof" / "index.html").read_text()
    assert STAYS in page
    assert "its labels are not in the file" in page
    kept = json.loads((tmp_path / "new-proof" / "proof.json").read_text())
    assert kept["rests_on"]["options"]["verb"] == "migrate"
    assert not list(tmp_path.rglob(".coreproof-*"))


@needs_coreai
def test_a_model_that_remembers_is_run_token_by_token_by_both(tmp_path: Path) -> None:
    counter(tmp_path / "old.mlpackage")
    proof = cp.migrate(tmp_path / "old.mlpackage", tmp_path / "new.aimodel", tmp_path / "page")
    assert said(proof) == {"c2a": True, "apple": True}
    assert "4 steps" in json.dumps(proof.to_json())


@needs_coreai
def test_other_kinds_go_through_a_program_of_float32(tmp_path: Path) -> None:
    network(tmp_path / "net.onnx")
    plain = cp.convert(tmp_path / "net.onnx", "neuralnetwork").save(tmp_path / "net.mlmodel")
    proof = cp.migrate(plain, tmp_path / "net.aimodel")
    assert proof.agrees
    assert "float16" not in {value.dtype for value in proof.models["c2a"].graph.values.values()}


@needs_coreai
def test_a_label_that_is_a_text_becomes_the_scores_that_choose_it(shared_data: Path, tmp_path: Path) -> None:
    """A pipeline of a support vector machine, whose one output is the name of a flower."""
    rows = {
        "Sepal.Length": np.array([5.1, 6.4, 6.3]), "Sepal.Width": np.array([3.5, 3.2, 3.3]),
        "Petal.Length": np.array([1.4, 4.5, 6.0]), "Petal.Width": np.array([0.2, 1.5, 2.5]),
    }  # fmt: skip
    fed = [{name: values[at : at + 1] for name, values in rows.items()} for at in range(3)]
    proof = cp.migrate(shared_data / "coreml" / "gavi_iris_A.mlmodel", tmp_path / "iris.aimodel", inputs=fed)
    assert proof.agrees
    new = cp.load(tmp_path / "iris.aimodel")
    with cp.session(new, engine="coreai") as running:
        renamed = [{name.replace(".", "_"): value for name, value in sample.items()} for sample in fed]
        chosen = [int(np.argmax(np.asarray(running.run(sample)["Species_scores"]))) for sample in renamed]
    assert chosen == [0, 1, 2]  # setosa, versicolor, virginica: one of Fisher's flowers of each


@needs_coreai
def test_texts_that_are_fed_have_no_place_in_core_ai(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="texts and dictionaries") as caught:
        cp.migrate(shared_data / "coreml" / "cocoaai_SentimentPolarity.mlmodel", tmp_path / "s.aimodel")
    assert "stay with Core ML" in str(caught.value)
    assert not (tmp_path / "s.aimodel").exists()


@needs_coreai
def test_a_proof_of_a_migration_is_carried_out_again(tmp_path: Path) -> None:
    counter(tmp_path / "old.mlpackage")
    cp.migrate(tmp_path / "old.mlpackage", tmp_path / "new.aimodel", tmp_path / "page")
    assert cp.check_proof(tmp_path / "page", tmp_path / "old.mlpackage").holds is True
    network(tmp_path / "net.onnx")
    other = cp.convert(tmp_path / "net.onnx", "mlprogram").save(tmp_path / "other.mlpackage")
    assert cp.check_proof(tmp_path / "page", other).holds is False


@needs_coreai
def test_what_is_wrong_on_apple_s_interpreter_alone_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coreproof.runtime.coreai import CoreAISession

    network(tmp_path / "net.onnx")
    old = cp.convert(tmp_path / "net.onnx", "mlprogram", precision="fp32").save(tmp_path / "old.mlpackage")
    honest = CoreAISession.run

    def off(self: CoreAISession, *given: Any, **named: Any) -> Any:
        return {name: value * np.float32(1.01) for name, value in honest(self, *given, **named).items()}

    monkeypatch.setattr(CoreAISession, "run", off)
    proof = cp.migrate(old, tmp_path / "new.aimodel")
    assert not proof
    assert said(proof)["c2a"] is True
    assert said(proof)["apple"] is False
    # it is written all the same, as convert does it: whoever made it wants to look at it
    assert (tmp_path / "new.aimodel" / "main.mlirb").exists()


@needs_coreai
def test_what_apple_s_interpreter_does_not_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coreproof.errors import RunError
    from coreproof.runtime.coreai import CoreAISession

    network(tmp_path / "net.onnx")
    old = cp.convert(tmp_path / "net.onnx", "mlprogram", precision="fp32").save(tmp_path / "old.mlpackage")

    def ended(*_: Any, **__: Any) -> Any:
        raise RunError("Apple's Core AI does not run the model", found="ended with signal 6 (Aborted)")

    monkeypatch.setattr(CoreAISession, "run", ended)
    proof = cp.migrate(old, tmp_path / "new.aimodel")
    failed = [step for step in proof.steps if step.ok is False]
    assert [(step.candidate, step.text) for step in failed] == [("apple", "not run: ended with signal 6 (Aborted)")]


@needs_coreai
def test_what_is_not_translated_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        return mb.add(x=mb.random_normal(shape=[2, 3], mean=0.0, stddev=1.0, seed=1), y=x)

    mil(tmp_path, build, (2, 3)).save(tmp_path / "old.mlpackage")
    with pytest.raises(UnsupportedOperatorsError, match="random_normal"):
        cp.migrate(tmp_path / "old.mlpackage", tmp_path / "new.aimodel")
    assert not (tmp_path / "new.aimodel").exists()
    assert not (tmp_path / "new-proof").exists()


@needs_coreai
def test_something_else_in_its_place_stays(tmp_path: Path) -> None:
    network(tmp_path / "net.onnx")
    old = cp.convert(tmp_path / "net.onnx", "mlprogram").save(tmp_path / "old.mlpackage")
    for place in (tmp_path / "new.aimodel", tmp_path / "page" / "index.html"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("years of work")
        with pytest.raises(OutputExistsError):
            cp.migrate(old, tmp_path / "new.aimodel", tmp_path / "page")
        assert place.read_text() == "years of work"
        place.unlink()


@needs_coreai
def test_the_verb_says_what_stays_and_ends_as_it_says(
    coreproof: Callable[..., Ran], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path)
    ran = coreproof("migrate", "old.mlpackage", "new.aimodel", "--out", "page", "--photos", photos)
    assert ran.code in (0, 1), ran.err
    assert "stays  x: a picture to its source" in ran.out
    assert (tmp_path / "page" / "proof.json").exists()
    document = json.loads(coreproof("migrate", "old.mlpackage", "new.aimodel", "--out", "page", "--json").out)
    assert (document["format"], document["title"]) == ("coreproof proof", "old")
    refused = coreproof("migrate", "net.onnx", "other.aimodel")
    assert (refused.code, "coreproof convert MODEL NEW.aimodel" in refused.err) == (2, True)


@pytest.mark.parametrize("name", ["new.mlpackage", "old.mlpackage", "new"])
def test_what_is_written_is_named_as_a_core_ai_model(tmp_path: Path, name: str) -> None:
    """A source that was named as the target was replaced by what is no package."""
    old = picture(tmp_path)
    with pytest.raises(InputError, match=r"ends in \.aimodel"):
        cp.migrate(old, tmp_path / name, replace=True)
    assert cp.load(old).is_program
    assert not (tmp_path / "new.mlpackage").exists()


def test_without_apple_s_package_the_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "find_spec", lambda name: None)
    network(tmp_path / "net.onnx")
    old = cp.convert(tmp_path / "net.onnx", "mlprogram").save(tmp_path / "old.mlpackage")
    with pytest.raises(MissingDependencyError, match=r"pip install 'coreproof\[coreai\]'"):
        cp.migrate(old, tmp_path / "new.aimodel")


def test_what_stays_is_told_with_what_to_do(tmp_path: Path) -> None:
    gone = {one.kind: one for one in stays(cp.load(picture(tmp_path)))}
    assert set(gone) == {"picture", "labels"}
    assert gone["picture"].features == ("x",)
    assert "8x8" in gone["picture"].to_do
    assert all(isinstance(one, LeftBehind) and one.to_do for one in gone.values())
    assert gone["labels"].to_json()["kind"] == "labels"
