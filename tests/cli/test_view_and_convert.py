"""view and convert as a user types them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coreproof.model.load import load
from coreproof.model.onnx import OnnxModel
from tests.cli.conftest import Ran
from tests.models import conv_relu_onnx
from tests.verify.nets import residual_net

Run = Callable[..., Ran]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return OnnxModel(conv_relu_onnx(batch="batch"), name="net").save(tmp_path / "net.onnx")


def test_view_gives_netron_the_file_inside_a_package(
    coreproof: Run, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netron = pytest.importorskip("netron", reason="Netron is not installed")
    package = tmp_path / "net.mlpackage"
    assert coreproof("convert", net, package).code == 0
    asked: list[str] = []

    def start(file: str | None = None, address: object = None, browse: bool = True) -> tuple[str, int]:
        asked.append(str(file))
        return "localhost", 8080

    monkeypatch.setattr(netron, "start", start)
    monkeypatch.setattr(netron, "wait", lambda: None)
    ran = coreproof("view", package, "--no-browse")
    assert ran.code == 0
    assert asked[0].endswith("model.mlmodel")
    assert "http://localhost:8080" in ran.out


@pytest.mark.parametrize("suffix", [".onnx", ".mlmodel", ".mlpackage"])
def test_view_opens_a_layer_and_what_surrounds_it(
    coreproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    netron = pytest.importorskip("netron", reason="Netron is not installed")
    whole = residual_net().save(tmp_path / "net.onnx")
    if suffix != ".onnx":
        assert coreproof("convert", whole, tmp_path / f"net{suffix}").code == 0
        whole = tmp_path / f"net{suffix}"
    layers = load(whole).graph.nodes
    layer = layers[len(layers) // 2]
    seen: list[list[str]] = []

    def start(file: str | None = None, address: object = None, browse: bool = True) -> tuple[str, int]:
        path = Path(str(file))
        package = next((p for p in path.parents if p.suffix == ".mlpackage"), path)
        seen.append([node.operator for node in load(package).graph.nodes])
        return "localhost", 8080

    monkeypatch.setattr(netron, "start", start)
    monkeypatch.setattr(netron, "wait", lambda: None)
    ran = coreproof("view", whole, "--layer", layer.name, "--around", "2", "--no-browse")
    assert ran.code == 0, ran.err
    assert layer.operator in seen[0]
    assert 3 <= len(seen[0]) < len(layers) / 2
    assert f"{layer.name} of {whole.name}" in ran.out


def test_view_names_layers_that_are_near(coreproof: Run, tmp_path: Path) -> None:
    pytest.importorskip("netron", reason="Netron is not installed")
    whole = residual_net().save(tmp_path / "net.onnx")
    name = load(whole).graph.nodes[0].name
    ran = coreproof("view", whole, "--layer", f"{name}x", "--no-browse")
    assert ran.code == 2
    assert name in ran.err


def test_view_says_how_to_get_netron(coreproof: Run, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)
    ran = coreproof("view", net)
    assert ran.code == 2
    assert "pip install" in ran.err


@pytest.mark.parametrize(("batch", "shown"), [("4", "4x3x8x8"), ("1-16", "1..16x3x8x8"), ("1,4", "1x3x8x8 or 4x3x8x8")])
def test_convert_frees_the_batch(coreproof: Run, net: Path, tmp_path: Path, batch: str, shown: str) -> None:
    ran = coreproof("convert", net, tmp_path / "net.mlpackage", "--batch", batch)
    assert ran.code == 0, ran.err
    assert f"input   x: float32[{shown}]" in ran.out


def test_convert_leaves_the_old_file_when_it_fails(coreproof: Run, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.mlmodel"
    out.write_text("old")
    ran = coreproof("convert", net, out, "--target", "iOS17")
    assert ran.code == 2
    assert "iOS17" in ran.err
    assert out.read_text() == "old"


def test_convert_makes_a_picture_of_the_input(coreproof: Run, net: Path, tmp_path: Path) -> None:
    ran = coreproof("convert", net, tmp_path / "net.mlpackage", "--image", "--mean", "1,2,3", "--colour", "BGR")
    assert ran.code == 0, ran.err
    assert "x: BGR image 8x8" in ran.out
