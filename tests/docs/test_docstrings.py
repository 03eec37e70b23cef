"""Each public name's docstring has an example, and each example gives what it shows."""

from __future__ import annotations

import doctest
import inspect
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx
from tests.forked import Commands

NAMES = sorted(cp.__all__)


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name: a network in each format, two that fit each other, two photos."""
    folder = tmp_path_factory.mktemp("stocked")
    ir.save(conv_relu_onnx(), folder / "net.onnx")
    network = OnnxModel(conv_relu_onnx(), name="net")
    cp.convert(network, "mlprogram").save(folder / "net.mlpackage")
    cp.convert(network, "mlprogram", images={"x": ImageInput()}).save(folder / "seen.mlpackage")
    cp.convert(network, "neuralnetwork").save(folder / "net.mlmodel")
    cp.convert(network, "neuralnetwork").save(folder / "one.mlmodel")
    second = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1, 4, 8, 8] y) => (float[1, 4, 8, 8] z) { z = Relu(y) }'
    )
    cp.convert(OnnxModel(second, name="second"), "neuralnetwork").save(folder / "two.mlmodel")
    (folder / "photos").mkdir()
    for name in ("a.png", "b.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_what_it_shows(
    name: str, stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: Commands
) -> None:
    shutil.copytree(stocked, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    told = inspect.getdoc(getattr(cp, name)) or ""
    found = doctest.DocTestParser().get_doctest(told, {"cp": cp}, name, None, None)
    assert found.examples, f"{name} shows no example"
    if name == "migrate" and find_spec("coreai") is None:
        pytest.skip("needs pip install 'coreproof[coreai]'")
    if name == "patch_coremltools":
        # it holds for a whole process, and there are other tests in this one
        Path("example.txt").write_text(f">>> import coreproof as cp\n\n{told}\n", encoding="utf-8")
        program = "import doctest, sys; sys.exit(doctest.testfile('example.txt', module_relative=False).failed > 0)"
        done = forked.run(folder=Path.cwd(), program=program)
        assert (done.code, done.out) == (0, b""), done.out + done.err
        return
    wrong: list[str] = []
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "")
    monkeypatch.setenv("COREPROOF_MAX_PIXELS", "")
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=wrong.append, clear_globs=False)
    assert wrong == []
