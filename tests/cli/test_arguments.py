"""Arguments that make no sense: refused at once, with what was expected and found, and with exit code 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import coreproof as cp
from coreproof.cli.options import FeedingOptions
from coreproof.conversion.onnx_to_coreml.features import ImageInput
from coreproof.errors import InputError
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return OnnxModel(conv_relu_onnx(batch="batch"), name="net").save(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mean": (1.0, 2.0)}, ["mean does not fit the 3 channel(s) of RGB", "1 number, or 3", "2 numbers: 1.0, 2.0"]),
        ({"std": (1.0, 2.0, 3.0, 4.0)}, ["std does not fit", "4 numbers"]),
        ({"mean": ()}, ["mean does not fit", "0 numbers"]),
        ({"colour": "GRAY", "mean": (1.0, 2.0, 3.0)}, ["1 channel(s) of GRAY", "3 numbers"]),
        ({"std": (1.0, 0.0, 1.0)}, ["std divides"]),
        ({"std": 2.0}, ["std does not fit", "found: 2.0"]),
        ({"mean": (float("nan"),)}, ["mean takes numbers", "nan"]),
        ({"scale": float("inf")}, ["scale takes numbers"]),
        ({"scale": "1/255"}, ["scale takes numbers"]),
        ({"colour": "CMYK"}, ["colour does not know 'CMYK'", "RGB, BGR, GRAY"]),
    ],
)
def test_numbers_that_do_not_fit_the_channels_are_said_with_both_counts(wrong: dict[str, Any], said: list[str]) -> None:
    for made in (cp.Feeding, ImageInput):
        with pytest.raises(InputError) as error:
            made(**wrong)
        assert all(words in str(error.value) for words in said), str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (224,)}, {"size": (224, 224, 3)}, {"size": (0, 8)}, {"size": (2.5, 8)}, {"size": 224}, {"size": (-1, 4)},
        {"resize": "bend"}, {"resize_to": 0}, {"resize_to": "256"}, {"interpolation": "best"}, {"layout": "HWC"},
        {"size": (2**40, 4)}, {"size": (True, 4)},
    ],
)  # fmt: skip
def test_a_geometry_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a feeding's"):
        cp.Feeding(**wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mean": "1,2"}, "--mean does not fit the 3 channel"),
        ({"std": "1,2,3,4"}, "--std does not fit"),
        ({"mean": "nan"}, "--mean takes numbers"),
        ({"scale": "inf"}, "--scale takes numbers"),
        ({"scale": "1/2/3"}, "--scale takes numbers"),
        ({"colour": "gray", "mean": "1,2,3"}, "--mean does not fit the 1 channel"),
        ({"mean": ""}, "--mean takes numbers"),
        ({"size": "1e9"}, "--size takes 224"),
        ({"size": "3x4x5"}, "--size takes 224"),
    ],
)
def test_the_options_say_the_same(options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as error:
        FeedingOptions(**options).resolve(None)
    assert said in str(error.value)


@pytest.mark.parametrize("batch", ["0", "-1", "4-1", "0-4", "1,0", "1,,4", "a", "", "1,a", "2.5", "--", "1-2-3"])
def test_batches_that_make_no_sense_are_refused(coreproof: Run, net: Path, tmp_path: Path, batch: str) -> None:
    ran = coreproof("convert", net, tmp_path / "out.mlpackage", f"--batch={batch}")
    assert ran.code == 2
    assert "--batch takes" in ran.err or batch == "4-1", ran.err  # that one is a range, upside down


@pytest.mark.parametrize("names", ["", ",", " , "])
def test_a_list_of_no_values_is_refused(coreproof: Run, net: Path, tmp_path: Path, names: str) -> None:
    ran = coreproof("convert", net, tmp_path / "out.mlpackage", "--keep-fp32", names)
    assert (ran.code, "names no value" in ran.err) == (2, True)


def test_labels_of_another_number_are_said_with_both_counts(coreproof: Run, tmp_path: Path) -> None:
    ends = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s)
        for n, s in (("x", [1, 3, 2, 2]), ("y", [1, 12]))
    ]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Flatten", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for count in (3, 13):
        (tmp_path / "labels.txt").write_text("\n".join(f"class {n}" for n in range(count)))
        predict = ("predict", tmp_path / "net.onnx", tmp_path / "a.png", "--size", 2, "--scale", 1)
        for verb in (predict, ("convert", tmp_path / "net.onnx", tmp_path / "out.mlpackage")):
            ran = coreproof(*verb, "--labels", tmp_path / "labels.txt")
            assert ran.code == 2, ran
            assert "12 labels" in ran.err
            assert str(count) in ran.err


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "x"])
def test_a_tolerance_is_a_number(coreproof: Run, net: Path, number: str) -> None:
    assert coreproof("verify", net, net, f"--tolerance={number}").code == 2
    assert coreproof("shrink", net, "--while", "true", f"--timeout={number}").code == 2


@pytest.mark.parametrize("size", ["0", "-1", "many", "8XB", "", "nan"])
def test_limits_are_sizes(coreproof: Run, net: Path, size: str) -> None:
    for arguments in ((f"--memory-budget={size}", "show", net), ("show", net, f"--memory-budget={size}")):
        ran = coreproof(*arguments)
        assert (ran.code, "memory budget is a size" in ran.err) == (2, True), ran
    ran = coreproof("show", net, f"--max-pixels={size}")
    assert (ran.code, "number of pixels" in ran.err) == (2, True), ran


def test_limits_hold_for_their_command_line_only(
    coreproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COREPROOF_MEMORY_BUDGET", raising=False)
    end = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 16, 16])
    made = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 16, 16])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [end], [made])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "net.onnx",
    )
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    line = ("predict", tmp_path / "net.onnx", tmp_path / "a.png", "--size", 16, "--scale", 1)
    refused = coreproof(*line, "--max-pixels", "1K")
    assert (refused.code, "40 x 40 = 1,600" in refused.err) == (2, True), refused
    assert coreproof("--max-pixels", "1K", *line).code == 2
    assert coreproof(*line).code == 0
    assert "COREPROOF_MEMORY_BUDGET" not in os.environ


@pytest.mark.sweep(2)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes as files here")
@pytest.mark.parametrize("kind", ["none", "folder", "pipe", "/dev/zero", "/dev/null", "nul\0byte"])
def test_what_is_no_file_is_refused_at_once(coreproof: Run, net: Path, tmp_path: Path, kind: str) -> None:
    wrong = {"folder": tmp_path / "folder", "pipe": tmp_path / "pipe", "none": tmp_path / "none"}.get(kind, kind)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    names: list[Any] = [wrong]
    if kind in ("pipe", "/dev/zero", "folder"):
        for suffix in (".onnx", ".mlmodel", ".pt2", ".npz", ".toml", ".mlpackage"):
            (tmp_path / f"link{suffix}").symlink_to(wrong)
            names.append(tmp_path / f"link{suffix}")
    lineup = tmp_path / "lineup.toml"
    lineup.write_text('[feed]\nsize = [8, 8]\n[models.a]\nsource = "net.onnx"\n')
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (8, 8)).save(photos / "a.png")
    np.savez(tmp_path / "inputs.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    for name in names:
        lines: list[tuple[Any, ...]] = [
            ("show", name),
            ("verify", net, name),
            ("verify", "--load", name, net),
            ("verify", net, net, "--inputs", name),
            ("convert", net, tmp_path / "o.mlpackage", "--labels", name),
            ("predict", net, name, "--size", 8, "--scale", 1),
            ("compare", name, "--photos", photos, "--out", tmp_path / "out"),
            ("compare", lineup, "--photos", photos, "--out", tmp_path / "out", "--import", name),
            ("compare", lineup, "--photos", photos, "--out", tmp_path / "out", "--labels", name),
            ("diff", net, name),
            ("doctor", name),
            ("doctor", net, "--against", name),
            ("split", name, tmp_path / "stages"),
            ("upgrade", name, tmp_path / "o.mlpackage"),
        ]
        if str(name).endswith(".toml"):
            lines.append(("edit", net, name, tmp_path / "o.onnx"))
        for line in lines:
            ran = coreproof(*line)
            assert ran.code == 2, (line, ran)
            assert "fault of coreproof" not in ran.err


def test_a_newcomers_slips_are_told_what_to_say_instead(coreproof: Run, net: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    model = tmp_path / "mine.py"
    model.write_text("def _helper(): ...\ndef of(width): ...\ndef model(size=8): ...\ndef other(): ...\n1 / 0\n")
    cases = (
        # read, and not run
        (("show", model), f"say {model}:model", "functions model, other"),
        (("verify", net, tmp_path / "photos"), "does not know this kind of file", "found: a folder"),
        (
            ("compare", net, "--photos", tmp_path / "photos", "--out", tmp_path / "o"),
            "a line-up is a TOML file",
            "verify A B",
        ),
        (("check-proof", net), "this is no proof of coreproof", "no text: its byte"),
    )
    for words, problem, found in cases:
        ran = coreproof(*words)
        assert ran.code == 2
        assert problem in ran.err
        assert found in ran.err
    model.write_text("def of(width): ...\n")
    assert "coreproof init NEW.py" in coreproof("show", model).err
    model.write_bytes(b"\xff\x00(")
    assert coreproof("show", model).code == 2
