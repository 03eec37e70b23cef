"""What a user's own code does wrong is one error that shows the user's own line, and exit code 2."""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import (
    ConversionError,
    CoreproofError,
    InputError,
    RunError,
    UnreadableModelError,
    UnsafeModelError,
)
from tests.forked import Commands

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, as it exports

NET = """
import sys, os
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x)

def model():
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A file net.py whose function is the given lines; gives what names it."""
    monkeypatch.chdir(tmp_path)

    def writes(*lines: str, before: str = "") -> str:
        (tmp_path / "net.py").write_text(before + NET + "".join(f"    {line}\n" for line in lines))
        monkeypatch.delitem(sys.modules, "net", raising=False)
        return "net.py:model"

    return writes


def refused(reference: Any, kind: type[CoreproofError], *parts: str, verb: Callable[[Any], Any] = lambda m: m) -> str:
    def done() -> None:
        verb(cp.load(reference))

    with pytest.raises(kind) as raised:
        done()
    text = str(raised.value)
    assert [part for part in parts if part not in text] == [], text
    assert "site-packages" not in text
    assert "Traceback" not in text
    return text


def signature(model: Any) -> Any:
    return model.signature


# the function


def test_what_a_function_raises_is_shown_with_its_line(write: Callable[..., str]) -> None:
    reference = write("weights = {}", "return weights['missing']")
    refused(reference, InputError, "net.py:15, in model: return weights['missing']", "KeyError: 'missing'")


def test_an_error_inside_a_library_is_shown_at_the_users_line(write: Callable[..., str]) -> None:
    refused(
        write("return torch.zeros(2).reshape(3), 1"), InputError, "net.py:14", "reshape(3)", "shape '[3]' is invalid"
    )


@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(3)", "raise SystemExit(3)", "quit(3)"])
def test_a_function_that_ends_the_process_is_an_error(write: Callable[..., str], end: str) -> None:
    refused(write(end), InputError, "ended the process", "exit code 3", f"net.py:14, in model: {end}")
    before = os._exit
    assert before.__module__ == "posix" or os.name == "nt"


def test_a_module_that_ends_the_process_as_it_is_imported_is_an_error(write: Callable[..., str]) -> None:
    write("pass", before="import sys\nsys.exit(0)\n")
    for reference in ("net.py:model", "net:model"):
        sys.modules.pop("net", None)
        refused(reference, UnreadableModelError, "cannot be imported", "ended the process", "net.py:2: sys.exit(0)")


def test_ctrl_c_in_a_function_stays_ctrl_c(write: Callable[..., str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        cp.load(write("raise KeyboardInterrupt"))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("net = Net()", "nothing"),
        ("return Net", "the class Net"),
        ("return 'model.pt'", "a str"),
        ("return Net(), torch.ones(1, 4), 3", "3 parts"),
        ("return Net, torch.ones(1, 4)", "the class Net"),
        ("return lambda x: x", "function"),
        ("return Net().state_dict()", "2 tensors: linear.weight, linear.bias"),
        ("return {'model': Net(), 'epoch': 3}", "2 entries: model, epoch"),
        ("return Net()", "Net"),
        ("return Net(), None", "none"),
        ("return Net(), ()", "none"),
        ("import numpy; return Net(), numpy.ones((1, 4))", "a numpy.ndarray"),
        ("return Net().to('meta'), torch.ones(1, 4)", "meta"),
    ],
)
def test_what_a_function_returns_is_named(write: Callable[..., str], body: str, found: str) -> None:
    refused(write(body), InputError, "found: ", found, "expected: ")


def test_a_number_that_forward_does_not_take_is_told_in_its_words(write: Callable[..., str]) -> None:
    said = "forward() takes 2 positional arguments but 3 were given"
    refused(
        write("return Net(), (torch.ones(1, 4), 3)"), InputError, "found: ", said, verb=lambda model: model.signature
    )


def test_a_state_dict_is_told_how_it_becomes_a_model(write: Callable[..., str]) -> None:
    refused(write("return Net().state_dict()"), InputError, "state dict", "load_state_dict")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own of TorchScript
def test_a_torchscript_module_is_taken_and_a_function_is_not(write: Callable[..., str]) -> None:
    for made in ("torch.jit.script(Net())", "torch.jit.trace(Net(), torch.ones(1, 4))"):
        assert cp.load(write(f"return {made}, torch.ones(1, 4)")).signature.inputs[0].shape == (1, 4)
    refused(
        write("return torch.jit.trace(torch.relu, torch.ones(1)), torch.ones(1)"), InputError, "TorchScript function"
    )


def test_a_class_in_the_place_of_a_function(write: Callable[..., str]) -> None:
    write("pass")
    refused("net.py:Net", InputError, "'Net' is a class", "def model(): return Net(...)")


def test_a_function_that_takes_arguments_names_them(write: Callable[..., str]) -> None:
    write("pass", before="def sized(width, *, depth, kind=1):\n    return None\n")
    refused("net.py:sized", InputError, "width, depth")


def test_files_that_cannot_be_imported(write: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("x = 1\ndef model(:\n")
    refused("wrong.py:model", UnreadableModelError, "wrong.py:2", "SyntaxError")
    (tmp_path / "needs.py").write_text("import torch\nimport not_installed_anywhere\n")
    for reference in ("needs.py:model", "needs:model"):
        sys.modules.pop("needs", None)
        refused(reference, UnreadableModelError, "needs.py:2: import not_installed_anywhere", "not_installed_anywhere")
    (tmp_path / "fails.py").write_text("width = 0\nprint(1 / width)\n")
    refused("fails.py:model", UnreadableModelError, "fails.py:2: print(1 / width)", "ZeroDivisionError")
    for reference in ("nowhere:model", "nowhere.py:model", ":model", "..x:model", "a b:model", "net.:model"):
        refused(reference, UnreadableModelError, "cannot import")
    write("pass")
    for reference in ("net.py:", "net.py:nothing", "net.py:torch", "net.py:a.b"):
        refused(reference, UnreadableModelError, "has no callable")


def test_a_module_in_the_current_folder_is_a_function_too(write: Callable[..., str]) -> None:
    write("return Net(), torch.ones(1, 4)")
    assert cp.load("net:model").signature.outputs[0].shape == (1, 3)
    assert cp.load("net.py:model").signature.outputs[0].shape == (1, 3)


# what it makes


def test_inputs_that_do_not_fit_are_shown_with_the_line_that_fails(write: Callable[..., str]) -> None:
    text = refused(
        write("return Net(), torch.ones(1, 5)"), InputError, "mat1 and mat2", "float32[1, 5]", verb=signature
    )
    assert "net.py:11, in forward: return self.linear(x)" in text
    refused(write("return Net(), (torch.ones(1, 4), torch.ones(2))"), InputError, "float32[2]", verb=signature)


def test_a_forward_that_raises_or_ends_the_process(write: Callable[..., str]) -> None:
    odd = "import torch\nclass Odd(torch.nn.Module):\n    def forward(self, x):\n        {}\n"
    for line, found in (
        ("return x[7]", "IndexError"),
        ("raise SystemExit(0)", "ended the process"),
        ("return 3", "a int"),
    ):
        reference = write("return Odd(), torch.ones(2)", before=odd.format(line))
        refused(reference, InputError, found, verb=signature)
    reference = write("return Odd(), torch.ones(2)", before=odd.format("return x, (x, [3])"))
    refused(reference, InputError, "output_1_1_0 is a int", verb=signature)


IF = """import torch
class Odd(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x + 1
        return x - 1
"""


@pytest.mark.parametrize(
    "verb",
    [
        lambda m: cp.convert(m, "onnx"),
        lambda m: cp.convert(m, "mlprogram"),
        lambda m: m.graph,
        lambda m: cp.verify(m, m),
    ],
    ids=["onnx", "mlprogram", "graph", "verify"],
)
def test_an_if_on_data_is_refused_with_its_line(write: Callable[..., str], verb: Callable[[Any], Any]) -> None:
    """Tracing would keep one branch of it without a word."""
    reference = write("return Odd(), torch.ones(2)", before=IF)
    refused(reference, ConversionError, "net.py:4, in forward: if x.sum() > 0:", "torch.cond", verb=verb)


def test_what_the_exporter_cannot_follow_is_shown_with_its_line(write: Callable[..., str]) -> None:
    odd = "import torch\nclass Odd(torch.nn.Module):\n    def forward(self, x):\n        return torch.linalg.eig(x)[0].abs()\n"
    reference = write("return Odd(), torch.eye(3)", before=odd)
    refused(reference, ConversionError, "eig", verb=lambda m: cp.convert(m, "onnx"))


def test_half_precision_weights_are_widened_with_a_note(write: Callable[..., str]) -> None:
    for dtype in ("half", "bfloat16"):
        model = cp.load(write(f"return Net().{dtype}(), torch.ones(1, 4).{dtype}()"))
        assert model.signature.inputs[0].dtype == model.signature.outputs[0].dtype == "float32"
        assert any("widened to float32" in note for note in model.notes)
        assert any("widened" in note for note in cp.convert(model, "onnx").notes)
    net = torch.nn.Linear(4, 3).half()
    model = cp.load((net, torch.ones(1, 4)))  # type: ignore[arg-type]
    assert net.weight.dtype == torch.float16  # the user's own is left as it was
    expected = torch.nn.functional.linear(torch.ones(1, 4), net.weight.float(), net.bias.float())
    torch.testing.assert_close(model.example_outputs["output"], expected)


@pytest.mark.thorough
def test_a_half_precision_program_is_run_or_refused(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        program = torch.export.export(torch.nn.Linear(4, 3).to(dtype), (torch.ones(1, 4, dtype=dtype),))
        torch.export.save(program, tmp_path / "half.pt2")
        model = cp.load(tmp_path / "half.pt2")
        assert model.signature.outputs[0].shape == (1, 3)
        try:
            with cp.session(model) as session:
                session.run({"input": np.ones((1, 4), np.float16)})
            cp.convert(model, "onnx")
        except CoreproofError:
            continue


def test_an_exported_program_is_taken_as_it_is(write: Callable[..., str]) -> None:
    model = cp.load(write("return torch.export.export(Net(), (torch.ones(1, 4),))"))
    assert model.signature.outputs[0].shape == (1, 3)


def test_a_model_that_fails_while_it_runs_names_shapes_and_line(write: Callable[..., str]) -> None:
    odd = "import torch\nclass Odd(torch.nn.Module):\n    def forward(self, x):\n        assert x.min() > 0\n        return x\n"
    model = cp.load(write("return Odd(), torch.ones(2, 4)", before=odd))
    with cp.session(model) as session, pytest.raises(RunError) as raised:
        session.run({"x": np.zeros((2, 4), np.float32)})
    assert "float32[2, 4]" in str(raised.value)
    assert "net.py:4, in forward: assert x.min() > 0" in str(raised.value)


# files


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_file_is_told_from_a_pickle(tmp_path: Path) -> None:
    for name in ("a.pt", "a.pth", "a.ts"):
        torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(2)), str(tmp_path / name))
        with pytest.raises(UnsafeModelError, match="TorchScript"):
            cp.load(tmp_path / name)
        with pytest.raises(InputError, match="TorchScript program does not say what it is fed"):
            cp.load(tmp_path / name, trust=True)


def test_a_state_dict_file_is_told_from_a_model(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "a.pth")
    for trust in (False, True):
        with pytest.raises(UnreadableModelError, match=r"state dict[\s\S]*torchvision:NAME\?weights=FILE"):
            cp.load(tmp_path / "a.pth", trust=trust)
    torch.save({"epoch": 3, "model": torch.nn.Linear(4, 3)}, tmp_path / "b.pt")
    with pytest.raises(UnreadableModelError, match="epoch, model"):
        cp.load(tmp_path / "b.pt", trust=True)


def test_a_state_dict_of_another_network_is_compared_name_by_name(tmp_path: Path) -> None:
    pytest.importorskip("coreproof.model.torch.model").import_torchvision()
    torch.save({"conv1.weight": torch.ones(2, 2), "head": torch.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(UnreadableModelError, match="not those of torchvision's resnet18") as raised:
        cp.load(f"torchvision:resnet18?weights={tmp_path / 'w.pth'}")
    assert "'bn1.weight' is missing" in str(raised.value)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**7))
    with pytest.raises(UnsafeModelError, match="compressed"):
        cp.load(f"torchvision:resnet18?weights={tmp_path / 'bomb.pth'}")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UnreadableModelError, match="cannot be read"):
        cp.load(f"torchvision:resnet18?weights={tmp_path / 'text.pth'}")
    for option in ("seed=x", "seed=-1", "num_classes=0", "num_classes=1e3", "seed=99999999999999999999"):
        with pytest.raises(InputError, match="whole number"):
            cp.load(f"torchvision:resnet18?{option}")


def test_a_pickle_whose_module_lies_in_the_current_folder(
    tmp_path: Path, forked: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mynet.py").write_text(
        "import torch\nclass Net(torch.nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 2, 3)\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with monkeypatch.context() as here:
        here.syspath_prepend(str(tmp_path))
        torch.save(importlib.import_module("mynet").Net(), tmp_path / "a.pt")
        here.delitem(sys.modules, "mynet")
        of_main = type("Net", (torch.nn.ReLU,), {"__module__": "__main__"})
        here.setattr(sys.modules["__main__"], "Net", of_main, raising=False)
        torch.save(of_main(), tmp_path / "main.pt")
    shown = forked.run("show", "a.pt", "--trust", folder=tmp_path)
    assert shown.code == 0, shown.err.decode()
    assert b"222" in shown.out
    missed = forked.run("show", "../a.pt", "--trust", folder=elsewhere)
    said = missed.err.decode()
    assert missed.code == 2
    assert "No module named 'mynet'" in said
    assert "run coreproof in the folder" in said.replace("\n", " ")
    assert "Traceback" not in said
    missed = forked.run("show", "main.pt", "--trust", folder=tmp_path)
    assert missed.code == 2
    assert "__main__" in missed.err.decode()


def test_a_damaged_pickle_is_an_error_with_trust_too(tmp_path: Path) -> None:
    for content in (b"", b"\x80\x02", b"garbage", b"PK\x03\x04" + bytes(100), b"\x80\x02cos\ngetcwd\n)R."):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(UnreadableModelError):
            cp.load(tmp_path / "a.pt", trust=True)


def test_the_command_ends_with_2_and_no_traceback(tmp_path: Path, forked: Commands) -> None:
    (tmp_path / "net.py").write_text(NET + "    os._exit(0)\n")
    ended = forked.run("show", "net.py:model", folder=tmp_path)
    assert ended.code == 2
    assert "net.py:14" in ended.err.decode()
    assert "Traceback" not in ended.err.decode()
