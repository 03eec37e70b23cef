"""A model's digest changes with what it computes, and with nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from coreproof.model.digest import model_digest
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.torch.model import TorchModel
from tests.aimodels import SMALL, assembled, needs_coreai
from tests.build import conv_relu_onnx, two_functions


def branches(folder: Path, value: float) -> Path:
    """y = w where c holds, else w; both in a branch, their weights in a file beside the model."""
    weights = numpy_helper.from_array(np.full(64, value, np.float32), "w")
    (folder / "w.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "w.bin"), ("offset", "0"), ("length", "256")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, text
    yes, no = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [64]) for name in ("yes", "no"))
    then = helper.make_graph([helper.make_node("Identity", ["w"], ["yes"])], "then", [], [yes], [weights])
    otherwise = helper.make_graph([helper.make_node("Constant", [], ["no"], value=weights)], "else", [], [no])
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise)],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


def test_weights_beside_the_model_count_wherever_it_uses_them(tmp_path: Path) -> None:
    digests = {model_digest(load(branches(tmp_path, value))) for value in (1.0, 2.0)}
    assert len(digests) == 2


def test_weights_beside_a_model_object_count(tmp_path: Path) -> None:
    ir.save(conv_relu_onnx(), tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    content = (tmp_path / "m.data").read_bytes()
    first = model_digest(OnnxModel(ir.load(tmp_path / "m.onnx"), name="m"))
    (tmp_path / "m.data").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert model_digest(OnnxModel(ir.load(tmp_path / "m.onnx"), name="m")) != first


def test_each_function_of_a_package_counts_as_a_model_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "both.mlpackage"
    two_functions(path)
    digests = {model_digest(load(name)) for name in (str(path), f"{path}#once", f"{path}#thrice")}
    assert len(digests) == 3
    assert model_digest(load(f"{path}#thrice")) == model_digest(load(path, function="thrice"))


@needs_coreai
def test_each_function_of_a_core_ai_model_counts_too(tmp_path: Path) -> None:
    path = assembled(tmp_path / "small.aimodel", SMALL)
    assert len({model_digest(load(name)) for name in (str(path), f"{path}#other")}) == 2


def test_path_and_date_do_not_count(tmp_path: Path) -> None:
    OnnxModel(conv_relu_onnx(), name="m").save(tmp_path / "m.onnx")
    first = model_digest(load(tmp_path / "m.onnx"))
    os.utime(tmp_path / "m.onnx", (1, 1))
    (tmp_path / "m.onnx").rename(tmp_path / "other.onnx")
    assert model_digest(load(tmp_path / "other.onnx")) == first


def test_a_package_is_its_model_and_weights(tmp_path: Path, shared_data: Path) -> None:
    package = tmp_path / "m.mlpackage"
    shutil.copytree(shared_data / "coreml" / "dhruvweaver_DrawMNIST_first.mlpackage", package)
    for path in package.rglob("*"):
        path.chmod(0o755)
    first = model_digest(load(package))
    (package / ".DS_Store").write_text("what the Finder leaves")
    (package / "Manifest.json").write_text((package / "Manifest.json").read_text() + " ")
    assert model_digest(load(package)) == first
    weights = next(package.rglob("weight.bin"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert model_digest(load(package)) != first


# PyTorch


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Any]:
    """Writes the module of a user, and loads what its ``make`` gives."""
    path = tmp_path / "net_of_a_user.py"

    def write(scale: float) -> str:
        path.write_text(
            "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.weight = torch.nn.Parameter(torch.ones(2))\n"
            f"    def forward(self, x):\n        return self.weight * x * {scale}\n"
            "def make():\n    return Net(), (torch.zeros(1, 2),)\n"
        )
        for name in [name for name in sys.modules if name.endswith("net_of_a_user")]:
            del sys.modules[name]
        return model_digest(load(f"{path}:make"))

    yield write
    for name in [name for name in sys.modules if name.endswith("net_of_a_user")]:
        del sys.modules[name]


def test_code_of_a_module_counts(torch: Any, written: Any) -> None:
    assert written(1.0) != written(2.0)
    assert written(2.0) == written(2.0)


def test_what_a_module_keeps_besides_its_weights_counts(torch: Any) -> None:
    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, buffer: float, setting: float, tensor: float) -> None:
            super().__init__()
            self.register_buffer("mean", torch.full((2,), buffer), persistent=False)
            self.setting = setting
            self.tensor = torch.full((2,), tensor)

        def forward(self, x: Any) -> Any:
            return (x - self.mean) * self.setting + self.tensor

    kept = ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0, 2.0), (1.0, 1.0, 1.0))
    digests = [model_digest(load((Net(*values), (torch.zeros(1, 2),)))) for values in kept]
    assert len(set(digests)) == 4
    assert digests[0] == digests[-1]


def test_every_dtype_has_a_digest(torch: Any) -> None:
    digests = set()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        module = torch.nn.Linear(2, 2).to(dtype)
        torch.nn.init.ones_(module.weight)
        torch.nn.init.ones_(module.bias)
        # as it stands: load would widen the halves to float32, and then all three compute the same
        digests.add(model_digest(TorchModel(module, (torch.zeros(1, 2, dtype=dtype),), name="linear")))
    assert len(digests) == 3
