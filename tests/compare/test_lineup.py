"""Line-ups as people write them, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreproof.compare.lineup import load_lineup
from coreproof.errors import LineupError

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
        ("[models.a]\nsource='a.onnx'\nfeed={mean=['x']}", "else than numbers"),
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
