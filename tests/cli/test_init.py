"""init writes a file that runs as it is; each verb shows an example that its own command line understands; -h helps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from coreproof.cli.examples import EXAMPLES
from coreproof.cli.main import VERBS
from coreproof.errors import InputError
from coreproof.feeding.picture_values import unknown_feeding
from coreproof.model.features import Feature
from tests.cli.conftest import Ran
from tests.docs.test_docs import check_words

Run = Callable[..., Ran]


def test_the_file_is_a_model_that_can_be_proved(coreproof: Run, tmp_path: Path) -> None:
    made = tmp_path / "mine.py"
    ran = coreproof("init", made, "--size", "16x24")
    assert (ran.code, f"coreproof prove {made}:model --photos PHOTOS --out proof" in ran.out) == (0, True)
    (tmp_path / "photos").mkdir()
    for name, colour in (("red", (220, 10, 10)), ("blue", (10, 10, 220))):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "photos" / f"{name}.png")
    ran = coreproof(
        *("prove", f"{made}:model", "--photos", tmp_path / "photos", "--out", tmp_path / "proof"),
        *("--no-witness", "--allow-weak"),
    )
    assert ran.code == 0, ran.err
    proof = json.loads((tmp_path / "proof" / "proof.json").read_text())
    assert "float32[1x3x24x16]" in proof["steps"][0]["text"]
    assert proof["rests_on"]["feeding"]["size"] == [16, 24]
    assert "untrained" in [weakness["kind"] for weakness in proof["verdict"]["weaknesses"]]
    assert all(len(line) <= 130 for line in made.read_text().splitlines())


def test_what_was_filled_in_is_not_lost(coreproof: Run, tmp_path: Path) -> None:
    made = tmp_path / "mine.py"
    assert coreproof("init", made).code == 0
    made.write_text(made.read_text().replace("network = torch", "network = my") + "# mine\n")
    assert coreproof("init", made).code == 2
    assert "# mine" in made.read_text()
    assert coreproof("init", made, "--replace").code == 0
    assert coreproof("init", tmp_path / "mine.txt").code == 2
    assert coreproof("init", tmp_path / "other.py", "--size", "0").code == 2


def test_each_verb_shows_an_example_that_it_understands() -> None:
    assert list(EXAMPLES) == [*VERBS, "mcp"]
    for verb, line in EXAMPLES.items():
        words = shlex.split(line)
        assert words[1] == verb
        check_words(words)


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_ends_with_the_example(coreproof: Run, asked: str) -> None:
    ran = coreproof("check", asked)
    assert ran.code == 0
    assert ran.out.rstrip().endswith("Example: coreproof check model.onnx --target iOS16")


@pytest.mark.parametrize(
    ("shape", "options", "line"),
    [
        ((1, 3, 320, 240), "--size 240x320 --scale 1/255 --mean 0.485,0.456,0.406", "size=(240, 320), scale=1 / 255"),
        (
            (None, 1, 28, 28),
            "--size 28 --colour GRAY --scale 1/255 --mean 0.5 --std 0.5",
            'size=(28, 28), colour="GRAY"',
        ),
        ((1, 96, 64, 3), "--size 64x96 --scale 1/255", "size=(64, 96)"),
        (("N", 3, "H", "W"), "--size 224 --scale", "size=(224, 224)"),
        (None, "--size 224 --scale", "size=(224, 224)"),
    ],
)
def test_what_is_missing_is_proposed_from_the_shape(
    shape: tuple[int | str | None, ...] | None, options: str, line: str
) -> None:
    error = unknown_feeding("net", Feature("x", dtype="float32", shape=shape))
    assert isinstance(error, InputError)
    assert options in str(error.fix)
    assert line in str(error.fix)
