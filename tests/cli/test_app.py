"""``coreproof app`` as it is typed: what it writes and says, and every mistake said without a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from PIL import Image

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx

from .conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network as ONNX, as a package that takes a picture, as one that takes an array; and two photos."""
    folder = tmp_path_factory.mktemp("data")
    ir.save(conv_relu_onnx(), folder / "net.onnx")
    cp.convert(OnnxModel(conv_relu_onnx(), name="net"), "mlprogram", images={"x": ImageInput()}).save(
        folder / "picture.mlpackage"
    )
    cp.convert(OnnxModel(conv_relu_onnx(), name="net"), "mlprogram").save(folder / "array.mlpackage")
    (folder / "photos").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    (folder / "photos" / "broken.jpg").write_bytes(b"")
    (folder / "phone").mkdir()
    for name in ("IMG_1.HEIC", "IMG_2.heic", ".DS_Store"):
        (folder / "phone" / name).write_bytes(b"")
    row = onnx.helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, [1, 512])
    scores = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 512])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Softmax", ["row"], ["scores"])], "g", [row], [scores])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        folder / "row.onnx",
    )
    cp.convert(folder / "row.onnx", "mlprogram").save(folder / "row.mlpackage")
    return folder


def plan_of(out: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(next(out.rglob("proof.json")).read_text(encoding="utf-8"))
    return plan


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("form", "name"), [("xcode", "My App"), ("swiftpm", "My App.swiftpm")])
def test_an_app_is_written(form: str, name: str, coreproof: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / name
    given = ("app", data / "picture.mlpackage", "--photos", data / "photos", "--format", form, "--out", out)
    ran = coreproof(*given, "--title", "Größe 🚂", "--squash", "--interpolation", "nearest")
    assert ran.code == 0, ran.err
    assert "Größe 🚂" in ran.out
    assert "2 samples" in ran.out
    assert "broken.jpg" in ran.err
    plan = plan_of(out)
    assert (plan["model"], plan["picture"]["squash"], plan["picture"]["interpolation"]) == ("Groe", True, "nearest")
    again = coreproof(*given)
    assert (again.code, "--replace" in again.err) == (2, True)
    assert coreproof(*given, "--replace").code == 0


def test_a_package_is_written(coreproof: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "Flowers"
    ran = coreproof("app", data / "array.mlpackage", "--format", "package", "--title", "Flowers", "--out", out)
    assert ran.code == 0, ran.err
    assert f"add {out} to your app in Xcode" in ran.out
    assert "  import Flowers\n  let outputs = try await Model().predict([" in ran.out
    assert (out / "Package.swift").is_file()


def test_a_model_of_arrays(coreproof: Run, data: Path, tmp_path: Path) -> None:
    ran = coreproof("app", data / "array.mlpackage", "--out", tmp_path / "drawn")
    assert ran.code == 0, ran.err
    assert "an app that shows numbers, 8 samples" in ran.out
    shape = plan_of(tmp_path / "drawn")["samples"][0]["inputs"]["x"]["shape"]
    np.savez(tmp_path / "given.npz", **{"x/0": np.ones(shape, np.float32), "x/1": np.zeros(shape, np.float32)})
    ran = coreproof("app", data / "array.mlpackage", "--inputs", tmp_path / "given.npz", "--out", tmp_path / "given")
    assert ran.code == 0, ran.err
    assert [s["name"] for s in plan_of(tmp_path / "given")["samples"]] == ["sample 1", "sample 2"]


def test_only_a_classifier_of_photos_is_sent_to_compare(coreproof: Run, data: Path, tmp_path: Path) -> None:
    shown = ("--screen", "classifier", "--limit", "1", "--out")
    rows = coreproof("app", data / "row.mlpackage", *shown, tmp_path / "rows")
    assert "1 sample, " in rows.out
    assert "classes are shown by their numbers" in rows.out
    assert "coreproof compare" not in rows.out + (tmp_path / "rows" / "README.md").read_text(encoding="utf-8")
    photos = coreproof("app", data / "picture.mlpackage", "--photos", data / "photos", *shown, tmp_path / "photos")
    assert f"LINEUP.toml --photos {data / 'photos'} --import device.json --out FOLDER" in photos.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("net.onnx", "--photos", "photos"), "coreproof convert net.onnx net.mlpackage --image"),
        (("missing.mlpackage", "--photos", "photos"), "missing.mlpackage"),
        (("picture.mlpackage",), "--photos FOLDER"),
        (("picture.mlpackage", "--photos", "nowhere"), "no such folder"),
        (("picture.mlpackage", "--photos", "photos/0.png"), "what to do: give photos"),
        (("picture.mlpackage", "--photos", "phone"), "found: 2 .heic"),
        (("picture.mlpackage", "--photos", "phone"), "HEIC is not read"),
        (("row.mlpackage", "--photos", "photos"), "leave out --photos"),
        (("picture.mlpackage", "--photos", "photos", "--out", "photos"), "something else stands"),
        (("picture.mlpackage", "--photos", "photos", "--out", "net.onnx/app"), "cannot be written"),
        (("picture.mlpackage", "--photos", "photos", "--format", "swiftpm"), "--out out.swiftpm"),
        (("picture.mlpackage", "--photos", "photos", "--identifier", "a b"), "bundle identifier"),
        (("array.mlpackage", "--photos", "photos"), "--size 8"),
        (("picture.mlpackage", "--photos", "photos", "--screen", "detector"), "no detector"),
    ],
)
def test_mistakes_are_said(
    arguments: tuple[str, ...], said: str, coreproof: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    before = sorted(data.rglob("*"))
    ran = coreproof("app", *arguments, *(() if "--out" in arguments else ("--out", "out")))
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.startswith("error: ")
    assert sorted(data.rglob("*")) == before, "nothing is left behind"
