"""convert refuses a module that decides by its data, with the line and the option to type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx
from tests.cli.conftest import Ran

pytest.importorskip("torch", reason="needs the torch extra")


def test_the_command_line_says_where_and_how_to_go_on(
    coreproof: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        if x.sum() > 0:\n"
        "            return x + 1\n        return x - 1\n\ndef model():\n    return Net(), torch.ones(1, 4)\n"
    )
    ran = coreproof("convert", "net.py:model", "out.mlpackage")
    assert ran.code == 2
    assert "net.py:5, in forward: if x.sum() > 0:" in ran.err
    assert "--freeze-branches" in ran.err
    assert not Path("out.mlpackage").exists()
    ran = coreproof("convert", "net.py:model", "out.mlpackage", "--freeze-branches")
    assert ran.code == 0, ran.err
    assert "frozen as the example took it (True): net.py:5" in ran.out


NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(4, 4)
    def forward(self, x):
        x = self.l(x)
        if x.sum() > 0:
            return x + 100
        return x - 1

class Count(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.full((1,), 3.0))
    def forward(self, x):
        self.n += 1
        return torch.tanh(x) * self.n

class Replace(Count):
    def forward(self, x):
        self.n = self.n + 1
        return torch.tanh(x) * self.n

def branching(sign=1.0):
    torch.manual_seed(0)
    net = Net()
    net.l.weight.data = sign * 0.3 * torch.eye(4)
    torch.nn.init.zeros_(net.l.bias)
    return net, torch.tensor([[1.0, 2.0, 3.0, 4.0]])

def other_way():
    return branching(-1.0)

def counting():
    return Count(), torch.ones(1, 4)

def replacing():
    return Replace(), torch.ones(1, 4)
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize("model", ["branching", "other_way"])
def test_a_model_with_frozen_branches_is_held_at_the_example(coreproof: Callable[..., Ran], model: str) -> None:
    ran = coreproof("convert", f"nets.py:{model}", "out.mlpackage", "--freeze-branches")
    assert ran.code == 0, ran.err
    assert "checked: ran once on the example inputs, which its frozen branches follow" in ran.out
    assert "not checked" not in ran.out


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize("model", ["counting", "replacing"])
def test_a_model_with_frozen_state_is_held_against_the_module_with_its_buffers_as_they_are(
    coreproof: Callable[..., Ran], model: str
) -> None:
    """Whatever ran before the export: the first answer of the module as it was handed in counts."""
    ran = coreproof("convert", f"nets.py:{model}", "out.mlpackage", "--freeze-state", "--precision", "fp32")
    assert ran.code == 0, ran.err
    assert "checked: ran once on drawn input" in ran.out
    assert "not checked" not in ran.out
    import numpy as np

    import coreproof as cp

    (got,) = cp.session("out.mlpackage").run({"x": np.ones((1, 4), np.float32)}).values()
    np.testing.assert_allclose(got, np.full((1, 4), 4 * np.tanh(1.0)), rtol=1e-5)


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(("model", "option"), [("branching", "--freeze-branches"), ("counting", "--freeze-state")])
def test_prove_freezes_what_it_is_told_to_freeze(coreproof: Callable[..., Ran], model: str, option: str) -> None:
    ran = coreproof("prove", f"nets.py:{model}", "--out", "proof", "--no-witness")
    if model == "branching":
        assert ran.code == 2
        assert option in ran.err
    else:  # what it remembers comes in and goes out of each conversion
        assert ran.code == 0, ran.out + ran.err
        assert "values agree over 4 tokens" in ran.out
    ran = coreproof("prove", f"nets.py:{model}", "--out", "proof", "--no-witness", option)
    assert ran.code == 0, ran.out + ran.err
    assert Path("proof/models/t2c16.mlpackage").exists()
    if model == "branching":
        told = json.dumps(json.loads(Path("proof/proof.json").read_text()))
        assert "the example inputs, which the frozen branches follow" in told
        assert "frozen as the example took it (True): nets.py:10" in told


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("prove net.onnx --out proof", "--freeze-state"),
        ("verify net.onnx net.onnx", "--freeze-branches"),
    ],
)
def test_what_has_no_module_has_nothing_to_freeze(
    coreproof: Callable[..., Ran], command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    OnnxModel(conv_relu_onnx(), name="net").save("net.onnx")
    ran = coreproof(*command.split(), option)
    assert ran.code == 2
    assert f"{option}: for PyTorch modules alone" in ran.err


@pytest.mark.thorough
@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(
    ("model", "option"),
    [("branching", "--freeze-branches"), ("other_way", "--freeze-branches"), ("counting", "--freeze-state")],
)
def test_what_was_frozen_is_verified_with_the_same_option(
    coreproof: Callable[..., Ran], model: str, option: str
) -> None:
    assert coreproof("convert", f"nets.py:{model}", "out.mlpackage", option).code == 0
    for given in (
        ("verify", f"nets.py:{model}", "out.mlpackage"),
        ("doctor", "out.mlpackage", "--against", f"nets.py:{model}"),
    ):
        ran = coreproof(*given)
        assert ran.code == 2
        assert option in ran.err
        ran = coreproof(*given, option)
        assert ran.code == 0, ran.out + ran.err


PICTURES = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c = torch.nn.Conv2d(3, 4, 3)
    def forward(self, x):
        if x.mean() > 0.5:
            return self.c(x).mean((2, 3)) + 100
        return self.c(x).mean((2, 3))

def dark():
    return Net(), torch.zeros(1, 3, 8, 8)

def no_picture():
    return Net(), torch.full((1, 3, 8, 8), -30000.0).index_fill(3, torch.tensor([0]), 250000.0)
"""


@pytest.mark.usefixtures("nets")
def test_a_picture_that_takes_the_frozen_branches_checks_a_model_that_takes_pictures(
    coreproof: Callable[..., Ran],
) -> None:
    Path("pictures.py").write_text(PICTURES)
    ran = coreproof("convert", "pictures.py:dark", "p.mlpackage", "--freeze-branches", "--image", "--scale", "1/255")
    assert ran.code == 0, ran.err
    assert "checked: ran once on a picture that takes the branches as the example inputs do" in ran.out
    ran = coreproof("verify", "pictures.py:dark", "p.mlpackage", "--freeze-branches")
    assert ran.code == 0, ran.out + ran.err
    assert "a picture that takes the branches as the example inputs do" in ran.out


@pytest.mark.thorough
@pytest.mark.usefixtures("nets")
def test_photos_that_take_another_branch_than_the_frozen_one_show_it(coreproof: Callable[..., Ran]) -> None:
    from PIL import Image

    Path("pictures.py").write_text(PICTURES)
    Path("photos").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 8), (250, 250, 200 + number)).save(f"photos/{number}.png")
    feed = ("--size", "8", "--scale", "1/255", "--mean", "0", "--std", "1")
    ran = coreproof(
        "prove", "pictures.py:dark", "--photos", "photos", "--out", "p", "--no-witness", "--freeze-branches", *feed
    )
    assert ran.code == 1, ran.out + ran.err
    assert "Verify ONNX (t2o) against PyTorch (torchm) disagrees" in ran.out
