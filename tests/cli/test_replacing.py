"""Every verb that writes leaves alone what it would not have written itself, unless --replace says that it may go."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from tests.build import onnx_proto
from tests.cli.conftest import Ran

Run = Callable[..., Ran]
LINEUP = """
[feed]
size = [8, 8]
scale = 0.01
[models.first]
source = "net.onnx"
[models.second]
from = "first"
convert = "neuralnetwork"
"""

VERBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "convert to ONNX": ("convert net.mlmodel out.onnx", ("out.onnx",)),
    "convert to a network": ("convert net.onnx out.mlmodel", ("out.mlmodel",)),
    "convert to a program": ("convert net.onnx out.mlpackage", ("out.mlpackage",)),
    "edit": ("edit net.onnx out.onnx --do|rename c d --keep out.toml", ("out.onnx", "out.toml")),
    "doctor": (
        "doctor broken.mlmodel --against net.onnx --fix out.mlmodel",
        ("out.mlmodel", "out.edits.toml"),
    ),
    "split": ("split pipeline.mlmodel out", ("out/pipeline_one.mlmodel", "out/pipeline_two.mlmodel")),
    "join": ("join one.mlmodel two.mlmodel out.mlmodel", ("out.mlmodel",)),
    "upgrade": ("upgrade net.mlmodel out.mlpackage", ("out.mlpackage",)),
    "shrink": ("shrink net.onnx --while|grep -q Relu {} --out out.onnx", ("out.onnx",)),
    "compare": ("compare lineup.toml --photos photos --out out", ("out/index.html", "out/comparison.json")),
    "prove": (
        "prove net.onnx --photos photos --out out --size 8 --scale 0.01",
        ("out/index.html", "out/proof.json", "out/models/o2c.mlpackage", "out/models/o2nn.mlmodel"),
    ),
    "app": ("app picture.mlpackage --photos photos --out out", ("out",)),
    "verify": (
        "verify net.onnx net.mlmodel --save out.npz --node-data out.json --plot out.svg",
        ("out.npz", "out.json", "out.svg"),
    ),
}
CASES = [(verb, target) for verb, (_, targets) in VERBS.items() for target in targets]


def network(path: Path) -> Path:
    """x [1, 3, 8, 8] -> conv -> relu -> mean -> flatten -> gemm -> y [1, 5]."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "g", "h"], ["y"], name="gemm"),
    ]
    weights = {"w": (8, 3, 3, 3), "b": (8,), "g": (8, 5), "h": (5,)}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def relu(path: Path, name: str, reads: str, makes: str) -> None:
    node = helper.make_node("Relu", [reads], [makes], name=name)
    onnx.save(onnx_proto([node], {reads: [1, 3, 8, 8]}, {makes: [1, 3, 8, 8]}, name=name), path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs read."""
    folder = tmp_path_factory.mktemp("made")
    net = network(folder / "net.onnx")
    plain = cp.convert(net, "neuralnetwork")
    plain.save(folder / "net.mlmodel")
    flat = next(n for n in plain.graph.nodes if "targetShape" in n.attributes)
    bake = cp.Edit("set", {"layer": flat.name, "attribute": "targetShape", "value": [4, -1]})
    cp.edit(plain, [bake], check=False).model.save(folder / "broken.mlmodel")
    cp.convert(net, "mlprogram", images={"x": ImageInput(scale=0.01)}).save(folder / "picture.mlpackage")
    for name, reads, makes in (("one", "x", "m"), ("two", "m", "y")):
        relu(folder / f"{name}.onnx", name, reads, makes)
        cp.convert(folder / f"{name}.onnx", "neuralnetwork").save(folder / f"{name}.mlmodel")
    cp.join([cp.load(folder / "one.mlmodel"), cp.load(folder / "two.mlmodel")], name="both").save(
        folder / "pipeline.mlmodel"
    )
    (folder / "lineup.toml").write_text(LINEUP)
    (folder / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which they stand, to write into."""
    for entry in made.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(coreproof: Run, verb: str, *more: str) -> Ran:
    words = VERBS[verb][0]
    for option in ("--do", "--while"):
        head, found, tail = words.partition(f"{option}|")
        if found:
            value, _, rest = tail.partition(" --")
            return coreproof(*head.split(), option, value, *f"--{rest}".split(), *more)
    return coreproof(*words.split(), *more)


def content(folder: Path) -> dict[str, bytes | str]:
    """Every file and folder in it, hidden ones too; links as what they lead to."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


@pytest.mark.parametrize(("verb", "target"), CASES, ids=[f"{v}: {t}" for v, t in CASES])
@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_what_is_somebody_elses_stays(
    coreproof: Run, here: Path, monkeypatch: pytest.MonkeyPatch, verb: str, target: str, folder: bool
) -> None:
    place = here / target
    mine = place / "Manifest.json" if folder else place
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("{}" if folder else "years of work")
    before = content(here)
    ran = typed(coreproof, verb)
    assert ran.code == 2, ran.out + ran.err
    assert "--replace" in ran.err
    assert str(Path(target)) in ran.err
    assert content(here) == before


@pytest.mark.sweep(2)
@pytest.mark.parametrize("verb", VERBS)
def test_with_replace_it_goes_and_ones_own_is_written_over(coreproof: Run, here: Path, verb: str) -> None:
    targets = VERBS[verb][1]
    for number, target in enumerate(targets):
        place = here / target
        place.parent.mkdir(parents=True, exist_ok=True)
        if number % 2 or verb == "app":
            place.mkdir()
            place = place / "thesis.txt"
        place.write_text("years of work")
    ran = typed(coreproof, verb, "--replace")
    assert ran.code in (0, 1), ran.out + ran.err
    written = content(here)
    assert b"years of work" not in written.values()
    assert not [name for name in written if name.split("/")[-1].startswith(".coreproof")]
    again = typed(coreproof, verb)
    assert again.code == (2 if verb == "app" else ran.code), again.out + again.err


@pytest.mark.parametrize("verb", ["convert to a network", "convert to a program", "verify"])
def test_a_device_is_never_replaced(coreproof: Run, here: Path, verb: str) -> None:
    for target in VERBS[verb][1]:
        os.mkfifo(here / target)
    assert typed(coreproof, verb, "--replace").code == 2
    assert all((here / target).is_fifo() for target in VERBS[verb][1])


def test_no_folder_that_holds_the_source_is_replaced(coreproof: Run, here: Path) -> None:
    (here / "work").mkdir()
    network(here / "work" / "net.onnx")
    (here / "work" / "thesis.txt").write_text("years of work")
    before = content(here)
    ran = coreproof("convert", here / "work" / "net.onnx", here / "work", "--to", "mlprogram", "--replace")
    assert ran.code == 2
    assert "net.onnx in it" in ran.err
    assert coreproof("convert", "net.onnx", here, "--to", "mlprogram", "--replace").code == 2
    assert content(here) == before


@pytest.mark.parametrize("name", ["net.onnx", "net.mlmodel", "picture.mlpackage"])
def test_a_model_is_edited_in_its_own_place(coreproof: Run, made: Path, tmp_path: Path, name: str) -> None:
    before = cp.load(made / name)
    own = before.save(tmp_path / name)
    layer = next(n for n in before.graph.nodes if "relu" in n.operator.lower() or n.operator == "activation")
    ran = coreproof("edit", own, own, "--do", f"rename {layer.outputs[0]} other")
    assert ran.code == 0, ran.err
    after = cp.load(own)
    assert any("other" in node.outputs for node in after.graph.nodes)
    assert cp.verify(before, after).agrees
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_data_beside_a_model_is_edited_in_its_own_place(coreproof: Run, made: Path, tmp_path: Path) -> None:
    own = tmp_path / "net.onnx"
    onnx.save_model(
        onnx.load(made / "net.onnx"), own, save_as_external_data=True, location="net.data", size_threshold=0
    )
    data = (tmp_path / "net.data").read_bytes()
    ran = coreproof("edit", own, own, "--do", "rename c other")
    assert ran.code == 0, ran.err
    assert (tmp_path / "net.data").read_bytes() == data
    assert cp.verify(cp.load(made / "net.onnx"), cp.load(own)).agrees
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.data", "net.onnx"]


def test_stages_of_any_name_stay_in_the_folder_and_apart(coreproof: Run, made: Path, tmp_path: Path) -> None:
    pipeline = cp.load(made / "pipeline.mlmodel")
    names = ["../../escaped", "..", "", "a/b", "a\\b", "CON", "x" * 300, "nul\0", "one", "ONE"]
    for first, second in pairwise(names):
        held = pipeline.spec.pipeline
        held.names[:] = [first, second]
        pipeline.save(tmp_path / "pipeline.mlmodel", replace=True)
        out = tmp_path / "deep" / "er" / "out"
        ran = coreproof("split", tmp_path / "pipeline.mlmodel", out)
        assert ran.code == 0, ran.err
        assert len([path for path in out.iterdir() if path.suffix == ".mlmodel"]) == 2, (first, second)
        assert all("\\" not in path.name and len(path.name) < 200 for path in out.iterdir())
        assert sorted(p.name for p in (tmp_path / "deep").rglob("*") if p.is_dir()) == ["er", "out"]
        for path in out.iterdir():
            path.unlink()


def test_a_model_is_not_written_over_by_what_is_made_of_it(coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    net = network(tmp_path / "net.onnx")
    before = net.read_bytes()
    beside = tmp_path / "link.onnx"
    beside.symlink_to(net)
    for out in (net, beside, tmp_path / "photos" / ".." / "net.onnx"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        ran = coreproof("convert", net, out)
        assert ran.code == 2
        assert "what this run reads, which would be lost" in ran.err
        assert net.read_bytes() == before
    assert coreproof("convert", net, net, "--replace").code == 0
    # editing in place is what edit is for
    (tmp_path / "edits.toml").write_text('[[edit]]\nverb = "rename"\nold = "y"\nnew = "z"\n')
    assert coreproof("edit", net, tmp_path / "edits.toml", net).code == 0


@pytest.mark.parametrize("verb", ["prove", "compare"])
def test_no_report_is_written_among_the_photos(
    verb: str, coreproof: Callable[..., Ran], photos: Path, tmp_path: Path
) -> None:
    net = network(tmp_path / "net.onnx")
    (tmp_path / "lineup.toml").write_text('[models.a]\nsource = "net.onnx"\n[models.b]\nsource = "net.onnx"\n')
    before = content(photos)
    what = net if verb == "prove" else tmp_path / "lineup.toml"
    ran = coreproof(verb, what, "--photos", photos, "--out", photos)
    assert ran.code == 2
    assert "among the photos" in ran.err
    assert content(photos) == before
