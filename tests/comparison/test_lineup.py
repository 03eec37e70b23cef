"""Line-ups as people write them, and what is wrong with some."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

import coreproof as cp
from coreproof.cli.main import main
from coreproof.comparison.lineup import Lineup, LineupEntry, lineup_of, load_lineup
from coreproof.comparison.variants import ModelFactory
from coreproof.errors import LineupError, UnsafeModelError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "squeezenet.toml"


def write(folder: Path, text: str) -> Path:
    (folder / "a.onnx").touch()
    path = folder / "lineup.toml"
    path.write_text(text)
    return path


def test_feedings_are_shared_and_inherited(tmp_path: Path) -> None:
    lineup = load_lineup(
        write(
            tmp_path,
            """
            feed = {size = [10, 20], mean = [1, 2, 3]}
            [models.a]
            source = "a.onnx"
            [models.b]
            from = "a"
            convert = "mlprogram"
            precision = "fp16"
            [models.c]
            from = "b"
            feed = {size = [5, 5]}
            """,
        )
    )
    assert lineup.names == ("a", "b", "c")
    a, b, c = (lineup.feeding(name) for name in "abc")
    assert a is not None
    assert a.mean == (1.0, 2.0, 3.0)
    assert a == b
    assert c is not None
    assert (c.size, c.mean) == ((5, 5), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[models.a]\nsource='a.onnx'\nfrom='b'", "either source or from"),
        ("[models.a]\nsource='a.onnx'\nfeeding={}", "unknown key.*feeding"),
        ("[models.a]\nsource='a.onnx'\nfeed={resize='stretch'}", "squash or crop"),
        ("[models.a]\nsource='a.onnx'\nfeed={mean=['x']}", r"a\.feed\.mean\[0\]: expected a number, found a text"),
        ("[models.a]\nsource='a.onnx'\nfeed={mean=[1, 2]}", "one mean, or 3.*found 2 in mean"),
        ("[models.a]\nsource='a.onnx'\nfeed={colour='GRAY', std=[1, 2, 3]}", "one std, or 1.*found 3 in std"),
        ("[models.a]\nsource='a.onnx'\nfeed={std=0}", r"feed\.std: expected a list"),
        ("[models.a]\nsource='a.onnx'\nfeed={std=[0]}", "a number other than 0"),
        ("[models.a]\nsource='a.onnx'\nfeed={scale=nan}", "a finite number"),
        ("[models.a]\nsource='a.onnx'\nfeed={scale=[1]}", r"feed\.scale: expected a number, found a list"),
        ("[models.a]\nsource='a.onnx'\nfeed={size=[0, 5]}", r"size\[0\]: expected a number from 1"),
        ("[models.a]\nsource='a.onnx'\nfeed={size=[5]}", "size: expected 2 entries, found 1"),
        ("[models.a]\nsource='a.onnx'\nfeed={resize_to='x'}", "resize_to: expected a whole number"),
        ("[models.a]\nsource='a.onnx'\nfeed=3", r"a\.feed: expected a table"),
        ("[models.a]\nsource='a.onnx'\nshape=[-1, 3]", "whole numbers above 0"),
        ("title = 3\n[models.a]\nsource='a.onnx'", "title: expected a text"),
        ("photos = 3\n[models.a]\nsource='a.onnx'", "photos: expected a table"),
        ("photos = {labels = []}\n[models.a]\nsource='a.onnx'", r"photos\.labels: expected a text"),
        ("attribution = 3\n[models.a]\nsource='a.onnx'", "attribution: expected a list"),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("[models.a]\nfrom='b'\n[models.b]\nfrom='a'", "made from itself"),
        ("[models.a]\nfrom='z'", "no model of it"),
        ("[models.a]\nsource='a.onnx'\nconvert='tflite'", "onnx or mlprogram"),
        ("[models]\n", "names no model"),
        ("not toml", "cannot be read"),
        ("[models.a]\nsource='a.onnx'\n[[attribution]]\nbetween=['a']", "two models and causes"),
        ("[models.a]\nsource='a.onnx'\n[[attribution]]\nbetween=3\ncauses={}", "two models and causes"),
        ("[models.a]\nsource='a.onnx'\n[[attribution]]\nbetween=['a','a']\ncauses={}", "'a' and itself"),
        (
            "[models.a]\nsource='a.onnx'\n[models.b]\nfrom='a'\n[[attribution]]\nbetween=['a','b']\ncauses={x='b'}",
            "'a' and 'b' by 'b'",
        ),
        ("[models.a]\nsource=3", "source.*(\n.*)*a text"),
        ("[models.a]\nsource='a.onnx'\nlabels=3", "labels.*(\n.*)*a label a line"),
        ("[models.a]\nsource='a.onnx'\nshape=[1, 'x']", "shape.*(\n.*)*whole numbers"),
        ("[models.a]\nsource='a.onnx'\nsoftmax='no'", "softmax.*(\n.*)*true or false"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LineupError, match=message):
        load_lineup(write(tmp_path, text))


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(LineupError, match="3 file") as error:
        load_lineup(EXAMPLE, data=tmp_path)
    for name in ("squeezenet1_1_torchvision.pth", "MS_SqueezeNet_fp16.onnx", "Apple_SqueezeNetInt8LUT.mlmodel"):
        assert name in str(error.value)


CODE = "import pathlib\npathlib.Path('EXECUTED').touch()\ndef model():\n    raise SystemExit('ran')\n"
OUTSIDE = {
    "evil.py:model": "Python code",
    "evil:model": "Python code",
    "os:getcwd": "Python code",
    "a.pt": "a pickle",
    "a.PTH": "a pickle",
    "script.ts": "a pickle",
    "/etc/passwd.onnx": "relative path",
    "../a.onnx": "relative path",
    "x/../../a.onnx": "relative path",
    "C:\\a.onnx": "relative path",
    "..\\a.onnx": "relative path",
    "torchvision:resnet18?weights=../w.pth": "relative path",
    "torchvision:resnet18?weights=%2e%2e%2fw.pth": "relative path",
    "torchvision:resnet18?seed=1&weights=/w.pth": "relative path",
}


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Python code and a pickle lie beside the line-up, and in which coreproof is run."""
    (tmp_path / "evil.py").write_text(CODE)
    (tmp_path / "a.pt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return tmp_path


@pytest.mark.parametrize("source", OUTSIDE)
def test_a_lineup_file_does_not_name_code_pickles_or_files_elsewhere(evil: Path, source: str) -> None:
    path = write(evil, f"[models.good]\nsource = 'a.onnx'\n[models.bad]\nsource = '{source}'\n")
    with pytest.raises(UnsafeModelError, match=OUTSIDE[source]) as raised:
        load_lineup(path)
    assert "models.bad.source" in str(raised.value)
    assert "models.good" not in str(raised.value)
    assert "--trust" in str(raised.value)
    with pytest.raises(UnsafeModelError, match=r"models\.bad\.source"):
        cp.compare(path, evil)
    with pytest.raises(
        UnsafeModelError
    ):  # the door behind: what loads the models of a line-up that got past the reader
        ModelFactory(Lineup((LineupEntry("bad", source),), folder=evil, stored=True)).source("bad")
    assert not (evil / "EXECUTED").exists()


def test_all_that_a_lineup_may_not_name_is_said_at_once(evil: Path) -> None:
    text = "[models.b]\nsource = 'evil.py:model'\nlabels = '../l.txt'\n[models.c]\nsource = 'a.pt'\n[photos]\nlabels = '/etc/p'"
    with pytest.raises(UnsafeModelError) as raised:
        load_lineup(write(evil, text))
    for part in ("models.b.source", "models.b.labels", "models.c.source", "photos.labels"):
        assert part in str(raised.value)


def test_with_trust_a_lineup_names_what_it_likes(evil: Path) -> None:
    (evil / "below").mkdir()
    (evil / "evil.py").write_text(
        "def model():\n    import torch\n    return torch.nn.Linear(2, 2), torch.ones(1, 2)\n"
    )
    path = write(evil / "below", "[models.b]\nsource = 'evil.py:model'\n[models.c]\nsource = '../below/a.onnx'\n")
    lineup = load_lineup(path, trust=True)
    assert ModelFactory(lineup).source("b").format == "torch"
    copy = pickle.loads(pickle.dumps(lineup))  # as a worker of a cluster gets it
    assert ModelFactory(copy).source("b").format == "torch"


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", ["", "  ", "a\\u0000.onnx"])
def test_names_that_name_nothing_are_refused_whatever_is_trusted(tmp_path: Path, name: str, trust: bool) -> None:
    with pytest.raises(UnsafeModelError, match=r"empty name|NUL"):
        load_lineup(write(tmp_path, f'[models.b]\nsource = "{name}"\n'), trust=trust)


def test_a_callable_that_a_user_gives_in_python_needs_no_trust_and_a_pickle_does(evil: Path) -> None:
    (evil / "own.py").write_text("def model():\n    import torch\n    return torch.nn.Linear(2, 2), torch.ones(1, 2)\n")
    assert ModelFactory(lineup_of({"a": "own.py:model"})).source("a").format == "torch"
    with pytest.raises(UnsafeModelError, match="pickled"):
        ModelFactory(lineup_of({"a": "a.pt"})).source("a")


def test_the_command_line_takes_trust_for_lineups(
    evil: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(evil, "[models.b]\nsource = 'evil.py:model'\n")
    words = ["coreproof", "compare", str(path), "--photos", str(evil), "--out", str(evil / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "Python code" in capsys.readouterr().err
    assert not (evil / "EXECUTED").exists()
    monkeypatch.setattr(sys, "argv", [*words, "--trust"])
    with pytest.raises(SystemExit):
        main()
    assert (evil / "EXECUTED").exists()
