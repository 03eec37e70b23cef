"""Names of strangers through every verb: on the terminal and in every file, nothing in them commands, turns or hides."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from coreproof.cli.terminal import Line, console
from coreproof.model.load import load
from coreproof.report.notebook import html
from coreproof.visible import visible
from tests.cli.conftest import Ran

Run = Callable[..., Ran]
EVIL = "a\x1b[2J\x1b]0;t\x07\r\n✓ all agree\x9b31m\u202egnp\u2066\u200b\u2028\ufeff[bold]"


def harmless(text: str) -> None:
    """Nothing but lines of letters that are seen."""
    for line in text.split("\n"):
        assert visible(line, keep="\t") == line, repr(line)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A classifier of pictures in which everything that has a name has a bad one."""

    def end(name: str, shape: list[int]) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    weights = onnx.numpy_helper.from_array(np.linspace(0, 0.02, 96, dtype=np.float32).reshape(2, 3, 4, 4), f"w{EVIL}")
    nodes = [
        onnx.helper.make_node("Conv", [f"x{EVIL}", f"w{EVIL}"], [f"c{EVIL}"], name=f"conv{EVIL}"),
        onnx.helper.make_node("Relu", [f"c{EVIL}"], [f"r{EVIL}"], name=f"relu{EVIL}"),
        onnx.helper.make_node("Flatten", [f"r{EVIL}"], [f"y{EVIL}"], name=f"flat{EVIL}"),
    ]
    graph = onnx.helper.make_graph(
        nodes, f"g{EVIL}", [end(f"x{EVIL}", [1, 3, 4, 4])], [end(f"y{EVIL}", [1, 2])], [weights]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    model.producer_name, model.doc_string = EVIL, EVIL
    model.metadata_props.add(key=EVIL, value=EVIL)
    path = tmp_path / "net\u202e\x1b[1m.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def other(evil: Path) -> Path:
    """The same names, another weight."""
    model = onnx.load(evil)
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.full((2, 3, 4, 4), -0.5, np.float32), f"w{EVIL}")
    )
    path = evil.with_name("other\u2066.onnx")
    onnx.save(model, path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\u202e\x1b[2J\ndog\u200b\x9b\n", encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(["a.png", "evil\u202e\x1b[2J\n.png"]):
        Image.new("RGB", (8, 8), (40 * number, 20, 90)).save(folder / name)
    (folder / "broken\u202e\x1b.jpg").write_bytes(b"no picture")
    return folder


def test_every_verb_says_names_escaped(
    coreproof: Run, evil: Path, other: Path, labels: Path, photos: Path, tmp_path: Path
) -> None:
    edits = tmp_path / "edits.toml"
    package, small = tmp_path / "n\u202e.mlpackage", tmp_path / "s\u202e.onnx"
    fed = ("--size", "4", "--scale", "1/255")
    runs = [
        (0, "show", evil),
        (0, "show", evil, "--layer", f"conv{EVIL}"),
        (0, "show", evil, "--json"),
        (2, "show", evil, "--layer", f"conw{EVIL}"),
        (2, "show", f"none{EVIL}.onnx"),
        (2, "show", evil, f"--{EVIL}"),
        (2, EVIL),
        (0, "verify", evil, evil),
        (1, "verify", evil, other),
        (0, "verify", evil, evil, "--json"),
        (None, "verify", evil, "--half"),
        (2, "verify", evil, other, "--inputs", f"{EVIL}.npz"),
        (1, "diff", evil, other),
        (1, "diff", evil, other, "--all", "--json"),
        (None, "doctor", evil),
        (None, "doctor", other, "--against", evil),
        (0, "edit", evil, tmp_path / "e\u202e.onnx", "--do", f"rename 'conv{EVIL}' 'b{EVIL}'", "--keep", edits),
        (2, "edit", evil, tmp_path / "e.onnx", "--do", f"delete 'none{EVIL}'"),
        (0, "predict", evil, *sorted(photos.iterdir()), "--labels", labels, *fed),
        (2, "predict", evil, photos / "broken\u202e\x1b.jpg", *fed),
        (None, "convert", evil, package, "--labels", labels, "--image", "--scale", "1", "--precision", "fp32"),
        (2, "convert", evil, package, "--keep-fp32", EVIL),
        (None, "shrink", evil, "--while", "true", "--out", small),
    ]
    for code, *arguments in runs:
        ran = coreproof(*arguments)
        assert ran.code in ((0, 1, 2) if code is None else (code,)), (arguments, ran)
        for said in (ran.out, ran.err):
            harmless(said)
            assert "\n✓ all agree" not in said
    harmless(edits.read_text(encoding="utf-8"))
    again = coreproof("edit", evil, edits, tmp_path / "again.onnx")
    assert again.code == 0, again.err
    assert f"b{EVIL}" in {node.name for node in load(tmp_path / "again.onnx").graph.nodes}
    harmless(html(load(evil)))


def test_the_page_and_the_files_of_a_comparison_hold_names_escaped(
    coreproof: Run, evil: Path, other: Path, labels: Path, photos: Path, tmp_path: Path
) -> None:
    lineup = tmp_path / "lineup.toml"
    lines = ['title = "six\\u202e\\u001b"\n[feed]\nsize = [4, 4]\nscale = 0.004']
    for name, path in (("one\u2066\u009b", evil), ("two\u202e", other)):
        lines += [f"[models.{json.dumps(name)}]\nsource = {json.dumps(path.name)}\nlabels = 'labels.txt'"]
    lineup.write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "out\u202e"
    ran = coreproof("compare", lineup, "--photos", photos, "--out", out)
    assert ran.code == 0, ran.err
    harmless(ran.out)
    harmless(ran.err)
    page = (out / "index.html").read_text(encoding="utf-8")
    harmless(page)
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    harmless(json.dumps(json.loads(data[1]), ensure_ascii=False))
    for written in [*out.glob("*.json"), *out.rglob("store/*.json")]:
        harmless(written.read_text(encoding="utf-8"))


def test_a_line_is_one_line_and_a_console_passes_on_no_control(capsys: pytest.CaptureFixture[str]) -> None:
    assert Line(EVIL).plain == visible(EVIL)
    assert Line.assemble(EVIL, (EVIL, "bold")).plain == visible(EVIL) * 2
    console().print(EVIL.replace("\n", ""))
    harmless(capsys.readouterr().out)
