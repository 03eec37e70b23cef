"""A stranger's path: one's own model as a file, as .onnx and as .pt2, through each verb; and the wrong uses that docs list."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from coreproof.cli.main import VERBS
from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof
from tests.cli.test_replacing import relu
from tests.docs.stand_ins import copy_for, lay_out

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reading-a-verdict.md"
WRONG = re.findall(r"^\| `(coreproof [^`]+)` \| `(error: [^`]+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
FEED = "--size 224 --scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
PATH = f"""
init mine.py
prove tiny.py:network --photos my-photos --out proof --labels labels.txt --no-witness --limit 6
prove model.onnx --photos my-photos --out proof-onnx --limit 6 {FEED}
prove own.pt2 --photos my-photos --out proof-pt2 --no-witness --limit 6 {FEED}
check own.pt2
convert own.pt2 own.mlpackage
show own.mlpackage
predict proof/models/t2c16.mlpackage my-photos/photo0.jpg
verify own.pt2 own.mlpackage
verify proof/models/t2o.onnx proof/models/t2c16.mlpackage --photos my-photos
doctor own.mlpackage --against own.pt2
edit model.mlpackage edited.mlpackage --do "rename x photo"
convert model.onnx old.mlmodel
upgrade old.mlmodel upgraded.mlpackage
convert first.onnx first.mlmodel
convert second.onnx second.mlmodel
join first.mlmodel second.mlmodel joined.mlmodel
split joined.mlmodel stages
diff model.mlpackage edited.mlpackage
shrink broken.mlmodel
compare lineup.toml --photos my-photos --out compared
check-proof proof-onnx model.onnx --photos my-photos
compare-proofs proof proof
app proof/models/t2c16.mlpackage --photos my-photos --out App
advise model.mlpackage --min-ios 17
"""
ENDS = {"diff": 1}
"""Verb -> its exit code where it is not 0: two versions that differ."""

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stranger")
    lay_out(folder)
    return folder


@pytest.fixture
def place(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a stranger has: models of three kinds, photos, labels."""
    copy_for("stranger", stand_ins, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.thorough
def test_own_models_go_through_each_verb(coreproof: Run, place: Path) -> None:
    from tests.docs.stand_ins import TINY_TORCH

    names: dict[str, object] = {}
    exec(compile(TINY_TORCH, "tiny.py", "exec"), names)
    made = names["network"]
    assert callable(made)
    torch.export.save(torch.export.export(made().module, (torch.zeros(1, 3, 224, 224),)), place / "own.pt2")
    relu(place / "first.onnx", "a", "x", "h")
    relu(place / "second.onnx", "b", "h", "y")
    used = set()
    for line in PATH.strip().splitlines():
        words = shlex.split(line)
        used.add(words[0])
        ran = coreproof(*words)
        assert ran.code == ENDS.get(words[0], 0), f"{line}\n{ran.out}\n{ran.err}"
        assert "/tmp" not in ran.out, f"{line} prints a private path:\n{ran.out}"
    # a server, one that opens a window, and one that takes Apple's package, which has tests of its own where that is
    assert set(VERBS) - used <= {"view", "mcp", "migrate"}, "a verb that no stranger tries"
    plan = next((place / "App").glob("*/proof.json")).read_text(encoding="utf-8")
    assert '"class 3"' in plan, "the app shows names"


def test_the_page_lists_ten_wrong_uses() -> None:
    assert len(WRONG) >= 10


@pytest.mark.parametrize(("line", "first"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_use_ends_with_2_and_says_what_it_is(coreproof: Run, place: Path, line: str, first: str) -> None:
    before = _files(place)
    ran = coreproof(*shlex.split(line)[1:])
    assert (ran.code, ran.err.splitlines()[0]) == (2, first)
    assert ran.out == ""
    assert _files(place) == before, "nothing is left behind"


def _files(place: Path) -> list[str]:
    """What lies there, without what Python itself keeps of a module that was named."""
    return sorted(p.name for p in place.iterdir() if p.name != "__pycache__")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("verfy a b", "Did you mean 'verify'"),
        ("prove model.onnx --phtos my-photos --out o", "--photos"),
        ("prove tiny.py:netwrok --out o", "did you mean tiny.py:network"),
        ("prove modle.onnx --out o", "did you mean model.onnx"),
        ("prove torchvision:resnet55 --out o", "did you mean resnet50"),
        ("prove torchvison:resnet50 --out o", "did you mean torchvision:resnet50"),
        ("prove model.onnx --photos my-photo --out o", "did you mean my-photos"),
    ],
)
def test_a_typo_gets_what_exists(coreproof: Run, place: Path, line: str, meant: str) -> None:
    ran = coreproof(*shlex.split(line))
    assert ran.code == 2
    assert meant in ran.err


@pytest.mark.parametrize("source", ["model.onnx", "own.pt2"])
def test_prove_says_which_options_a_file_lacks(coreproof: Run, place: Path, source: str) -> None:
    if source.endswith(".pt2"):
        net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
        torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 28, 20),)), place / source)
    ran = coreproof("prove", source, "--photos", "my-photos", "--out", "o")
    assert ran.code == 2
    proposed = {"model.onnx": FEED, "own.pt2": "--size 20x28 --colour GRAY --scale 1/255 --mean 0.5 --std 0.5"}[source]
    assert f"add {proposed}" in ran.err
    assert "cp.Source" not in ran.err
    classes = {"model.onnx": 10, "own.pt2": 4}[source]
    assert f"--labels FILE with {classes} class names" in ran.err
