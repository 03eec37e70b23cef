"""One grammar over all verbs: --out wherever something is written, --photos wherever pictures are seen, help that flows."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

import coreproof as cp
from coreproof.cli.examples import EXAMPLES, flowing
from coreproof.cli.verbs import VERBS
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx
from tests.cli.conftest import Ran
from tests.docs.test_json import documented

Run = Callable[..., Ran]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network in three formats, a pipeline of two, an edit, and a folder with two photos and a broken one."""
    monkeypatch.chdir(tmp_path)
    ir.save(conv_relu_onnx(), "net.onnx")
    cp.convert(OnnxModel(conv_relu_onnx(), name="net"), "neuralnetwork").save("net.mlmodel")
    cp.convert(OnnxModel(conv_relu_onnx(), name="net"), "mlprogram", images={"x": ImageInput()}).save("seen.mlpackage")
    Path("edits.toml").write_text('[[edit]]\nverb = "rename"\nvalue = "y"\nto = "z"\n')
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "net.onnx", "{}.mlpackage"),
        ("convert", "net.onnx", "{}.mlmodel", "--no-check"),
        ("upgrade", "net.mlmodel", "{}.mlpackage"),
        ("edit", "net.onnx", "{}.onnx", "--do", "rename y z"),
    ],
    ids=" ".join,
)
def test_out_by_its_place_or_by_its_option(words: tuple[str, ...], coreproof: Run, data: Path) -> None:
    verb, model, out, *more = words
    by_place = coreproof(verb, model, out.format("place"), *more)
    assert by_place.code == 0, by_place.err
    by_option = coreproof(verb, model, "--out", out.format("option"), *more)
    assert by_option.code == 0, by_option.err
    assert by_option.out.replace("option", "place") == by_place.out
    assert Path(out.format("option")).exists()
    twice = coreproof(verb, model, out.format("one"), "--out", out.format("other"), *more)
    assert twice.code == 2
    assert twice.err.startswith("error: say ")
    assert not Path(out.format("one")).exists()


def test_out_of_stages(coreproof: Run, data: Path) -> None:
    joined = coreproof("join", "net.mlmodel", "net.mlmodel", "--out", "two.mlmodel")
    if joined.code == 0:
        done = coreproof("split", "two.mlmodel", "--out", "stages")
        assert (done.code, len(list(Path("stages").iterdir()))) == (0, 2), done.err
    else:  # the stages do not fit each other, which is said of them, and of no option
        assert "--out" not in joined.err
    missing = coreproof("split", "net.mlmodel")
    assert (missing.code, "say where to write" in missing.err, "--out OUT" in missing.err) == (2, True, True)


def test_predict_takes_photos_as_the_others_do(coreproof: Run, data: Path) -> None:
    given = ("predict", "seen.mlpackage", "--squash")
    folder = coreproof(*given, "--photos", "photos")
    assert folder.code == 0, folder.err
    assert "deep/b.png" in folder.out
    assert "broken.jpg" in folder.err
    assert coreproof(*given, "photos").out == folder.out
    told = coreproof(*given, "--photos", "photos", "--json", "--top", 2)
    document = json.loads(told.out)
    assert set(document) == documented("Predictions")
    assert [seen["photo"] for seen in document["predictions"]] == ["a.png", "deep/b.png"]
    for seen in document["predictions"]:
        first, second = seen["classes"]
        assert set(first) == {"index", "label", "probability"}
        assert first["probability"] >= second["probability"]
    assert [left["photo"] for left in document["skipped"]] == ["broken.jpg"]
    none = coreproof(*given)
    assert (none.code, "--photos FOLDER" in none.err) == (2, True)


@pytest.mark.sweep(5)
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_flows_and_ends_with_an_example(verb: str, coreproof: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = coreproof(verb, "-h")
    assert ran.code == 0
    assert ran.out == coreproof(verb, "--help").out
    assert EXAMPLES[verb].split()[0] == "coreproof"
    assert "Example:" in ran.out
    # nothing is cut at the 80 columns of a terminal
    assert "…" not in ran.out
    for paragraph in flowing(inspect.getdoc(VERBS[verb]) or "").split("\n\n"):
        assert paragraph.startswith(" ") or "\n" not in paragraph


@pytest.mark.parametrize(
    ("verb", "never"), [("app", "torchvision:"), ("split", ".onnx"), ("upgrade", ".onnx"), ("edit", ".pt2")]
)
def test_what_a_verb_does_not_take_is_not_promised(verb: str, never: str, coreproof: Run) -> None:
    shown = coreproof(verb, "-h").out
    assert never not in shown[shown.index("Arguments") : shown.index("Options")]


@pytest.mark.parametrize("verb", EXAMPLES)
def test_80_columns_hold_what_an_option_is_for(verb: str, coreproof: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch takes no value, a kind is a short word: half of the line is left for what is said."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = coreproof(verb, "-h").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "<bool>" in line or "[default: True]" in line]
    rows = [line for line in lines if line.startswith(("│ --", "│ *  --", "│    --"))]
    texts = [line[: -len(line.split("  ")[-1])] for line in (row.rstrip(" │") for row in rows)]
    assert rows
    assert max(map(len, texts)) <= 54


@pytest.mark.parametrize("verb", ["prove", "check", "advise", "convert", "show", "predict", "verify", "doctor", "diff"])
def test_verbs_that_take_a_module_say_how_it_is_named(verb: str, coreproof: Run) -> None:
    assert "FILE.py:FUNCTION" in coreproof(verb, "-h").out
