"""view and convert as a user types them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import onnx
import pytest

from coreproof.cli import view
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from tests.aimodels import SMALL, assembled, needs_coreai
from tests.build import conv_relu_onnx, onnx_model, residual_net
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return OnnxModel(conv_relu_onnx(batch="batch"), name="net").save(tmp_path / "net.onnx")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the browser would have got from each address that was opened: the page, then the model file."""
    pytest.importorskip("netron", reason="Netron is not installed")
    bodies: list[str] = []

    def look(address: str) -> bool:
        direct = build_opener(ProxyHandler({}))
        with direct.open(address) as page:
            bodies.extend([page.headers["Content-Security-Policy"], page.read().decode()])
        file = re.search('name="file" content="([^"]*)"', bodies[1])
        assert file is not None
        with direct.open(address + file[1]) as data:
            bodies.append(data.read().hex())
        with pytest.raises(HTTPError) as error:
            direct.open(address + "/no-such-file")
        assert error.value.code == 404
        error.value.close()
        return True

    monkeypatch.setattr("webbrowser.open", look)
    monkeypatch.setattr(view, "wait", lambda: None)
    return bodies


def test_view_serves_the_file_inside_a_package_and_reaches_nothing_else(
    coreproof: Run, net: Path, tmp_path: Path, seen: list[str]
) -> None:
    package = tmp_path / "net.mlpackage"
    assert coreproof("convert", net, package).code == 0
    ran = coreproof("view", package, "--port", "0")
    assert ran.code == 0, ran.err
    policy, page, data = seen
    assert "connect-src 'self'" in policy
    assert "data-layer" not in page
    assert bytes.fromhex(data) == next(package.rglob("*.mlmodel")).read_bytes()


def test_view_goes_to_a_layer_by_its_name_or_by_what_it_makes(coreproof: Run, net: Path, seen: list[str]) -> None:
    node = load(net).graph.nodes[0]
    for wanted in (node.name, node.outputs[0]):
        seen.clear()
        ran = coreproof("view", net, "--layer", wanted, "--port", "0")
        assert ran.code == 0, ran.err
        assert f"const wanted = {json.dumps([node.name, *node.outputs])};" in seen[1]


def test_view_lets_no_name_end_the_script(coreproof: Run, net: Path, tmp_path: Path, seen: list[str]) -> None:
    name = "</script><script>alert(1)//"
    proto = onnx.load(str(net))
    proto.graph.node[0].name = name
    onnx.save(proto, str(tmp_path / "odd.onnx"))
    ran = coreproof("view", tmp_path / "odd.onnx", "--layer", name, "--port", "0")
    assert ran.code == 0, ran.err
    assert name not in seen[1]
    assert "\\u003c/script>" in seen[1]


def test_view_says_that_a_port_is_taken(coreproof: Run, net: Path) -> None:
    pytest.importorskip("netron", reason="Netron is not installed")
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        ran = coreproof("view", net, "--no-browse", "--port", str(taken.getsockname()[1]))
    assert ran.code == 2
    assert "--port 0" in ran.err


def test_view_says_which_ports_there_are(coreproof: Run, net: Path) -> None:
    pytest.importorskip("netron", reason="Netron is not installed")
    ran = coreproof("view", net, "--no-browse", "--port", "99999")
    assert ran.code == 2
    assert "65535" in ran.err


@pytest.mark.sweep(1)
@pytest.mark.parametrize("suffix", [".onnx", ".mlmodel", ".mlpackage"])
def test_view_opens_a_layer_and_what_surrounds_it(
    coreproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    pytest.importorskip("netron", reason="Netron is not installed")
    whole = residual_net().save(tmp_path / "net.onnx")
    if suffix != ".onnx":
        assert coreproof("convert", whole, tmp_path / f"net{suffix}").code == 0
        whole = tmp_path / f"net{suffix}"
    layers = load(whole).graph.nodes
    layer = layers[len(layers) // 2]
    seen: list[list[str]] = []

    def files(path: Path) -> tuple[Path, dict[str, Path]]:
        seen.append([node.operator for node in load(path).graph.nodes])
        return served(path)

    served = view.model_files
    monkeypatch.setattr(view, "model_files", files)
    monkeypatch.setattr(view, "wait", lambda: None)
    ran = coreproof("view", whole, "--layer", layer.name, "--around", "2", "--no-browse", "--port", "0")
    assert ran.code == 0, ran.err
    assert layer.operator in seen[0]
    assert 3 <= len(seen[0]) < len(layers) / 2
    assert f"{layer.name} of {whole.name}" in ran.out


def test_view_looks_into_a_pickled_file_only_with_trust(
    coreproof: Run, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("netron", reason="Netron is not installed")
    pickled = tmp_path / "net.pt"
    pickled.write_bytes(b"\x80\x04N.")
    refused = coreproof("view", pickled, "--layer", "relu", "--no-browse", "--port", "0")
    assert (refused.code, "--trust" in refused.err) == (2, True)
    monkeypatch.setattr("coreproof.model.torch.user_models.load_pickle", lambda _: load(net))
    monkeypatch.setattr(view, "wait", lambda: None)
    layer = load(net).graph.nodes[0].name
    trusted = coreproof("view", pickled, "--layer", layer, "--around", "1", "--trust", "--no-browse", "--port", "0")
    assert trusted.code == 0, trusted.err


def test_view_names_layers_that_are_near(coreproof: Run, tmp_path: Path) -> None:
    pytest.importorskip("netron", reason="Netron is not installed")
    whole = residual_net().save(tmp_path / "net.onnx")
    name = load(whole).graph.nodes[0].name
    ran = coreproof("view", whole, "--layer", f"{name}x", "--no-browse")
    assert ran.code == 2
    assert name in ran.err


@needs_coreai
def test_view_shows_a_core_ai_model_as_the_onnx_that_it_lowers_to(tmp_path: Path) -> None:
    shown = view.readable(assembled(tmp_path / "small.aimodel", SMALL), tmp_path)
    assert [value.name for value in onnx.load(shown).graph.output] == ["y"]
    assert view.readable(shown, tmp_path) == shown


def test_view_says_how_to_get_netron(coreproof: Run, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "find_spec", lambda name: None)
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
    assert coreproof("convert", net, out).code == 0
    old = out.read_bytes()
    ran = coreproof("convert", net, out, "--target", "iOS17")
    assert ran.code == 2
    assert "iOS17" in ran.err
    assert out.read_bytes() == old


def test_a_picture_of_one_channel_is_grey_and_its_free_size_is_what_was_said(coreproof: Run, tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, "h", "w"])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 1, "h", "w"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "grey.onnx")
    out = tmp_path / "grey.mlpackage"
    ran = coreproof("convert", tmp_path / "grey.onnx", out, "--image", "--size", "20x16", "--scale", "1")
    assert ran.code == 0, ran.err
    assert "input   x: GRAY image 20x16" in ran.out
    # the file notes how a picture is fed, as of a model that brings its own feeding
    noted = load(out).feeding
    assert noted is not None
    assert (noted.size, noted.scale, noted.colour) == ((20, 16), 1.0, "GRAY")
    unsaid = coreproof("convert", tmp_path / "grey.onnx", out, "--image", "--size", "8")
    assert (unsaid.code, "--scale 1/255 --mean" in unsaid.err) == (2, True)
    coloured = coreproof(
        "convert", tmp_path / "grey.onnx", out, "--image", "--size", "8", "--scale", "1", "--colour", "RGB"
    )
    assert (coloured.code, "colour GRAY" in coloured.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("out.mlpackage", "--image", "--size", "9", "--scale", "1"), "the size is not what the model takes"),
        (("out.mlpackage", "--mean", "0.5"), "say --image as well"),
        (("out.onnx", "--mean", "0.5"), "are for Core ML"),
        (("out.txt",), "OUT.onnx, OUT.mlpackage, OUT.mlmodel"),
        (("out.txt", "--to", "tflite"), "--to does not know 'tflite'"),
    ],
)
def test_what_convert_would_have_ignored_is_said(
    arguments: tuple[str, ...], said: str, coreproof: Run, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(net.parent)
    ran = coreproof("convert", net, *arguments)
    assert (ran.code, said in ran.err) == (2, True), ran.err


def test_what_cannot_be_written_is_named_and_is_no_disagreement(coreproof: Run, net: Path, tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file, not a folder")
    for arguments in (
        ("convert", net, occupied / "out.mlpackage"),
        ("verify", net, net, "--node-data", occupied / "n.json"),
    ):
        ran = coreproof(*arguments)
        assert (ran.code, ran.err.splitlines()[0]) == (2, "error: a file cannot be read or written"), ran.err
        assert f"where: {occupied}" in ran.err
    assert occupied.read_text() == "a file, not a folder"


def test_convert_makes_a_picture_of_the_input(coreproof: Run, net: Path, tmp_path: Path) -> None:
    ran = coreproof("convert", net, tmp_path / "net.mlpackage", "--image", "--mean", "1,2,3", "--colour", "BGR")
    assert ran.code == 0, ran.err
    assert "x: BGR image 8x8" in ran.out
    noted = load(tmp_path / "net.mlpackage").feeding
    assert noted is not None
    assert (noted.size, noted.mean, noted.colour) == ((8, 8), (1.0, 2.0, 3.0), "BGR")


@pytest.mark.parametrize(
    ("shape", "shown"),
    [("2x3x8x8", "2x3x8x8"), ("1..4x3x8x8", "1..4x3x8x8"), ("1x3x8x8|4x3x8x8", "1x3x8x8 or 4x3x8x8")],
)
def test_convert_takes_shapes_by_input(coreproof: Run, net: Path, tmp_path: Path, shape: str, shown: str) -> None:
    ran = coreproof("convert", net, tmp_path / "net.mlpackage", "--shape", f"x={shape}")
    assert ran.code == 0, ran.out + ran.err
    assert f"input   x: float32[{shown}]" in (ran.out + ran.err)


def test_a_batch_beside_another_free_dimension_asks_for_the_whole_shape(coreproof: Run, tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> net (float[n,length] x) => (float[n,length] y) { y = Relu(x) }'
    path = onnx_model(text).save(tmp_path / "net.onnx")
    ran = coreproof("convert", path, tmp_path / "net.mlpackage", "--batch", "1")
    assert ran.code == 2
    assert "other free dimensions than the batch: length" in (ran.out + ran.err)
    assert "--shape x=" in (ran.out + ran.err)
    ran = coreproof("convert", path, tmp_path / "net.mlpackage", "--shape", "x=1..4x1..16")
    assert ran.code == 0, ran.out + ran.err
    assert "input   x: float32[1..4x1..16]" in (ran.out + ran.err)
    ran = coreproof("convert", path, tmp_path / "net.mlpackage", "--shape", "z=1x1")
    assert ran.code == 2
    assert "inputs that the model does not have" in (ran.out + ran.err)
