"""TorchScript files: trusted, told what they are fed, converted with their branches and loops, and refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import InputError, UnreadableModelError, UnsafeModelError
from coreproof.model.digest import model_digest
from coreproof.model.stored_source import why_unsafe

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own of TorchScript


class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


class Decides(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        if bool(x.sum() > 0):
            z = y + 10 if bool(x.max() > 2) else y * 2
            return z + x.max()
        return y - 1


class Doubles(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool(x.sum() < 100):
            x = x * 2
        return x


class Embeds(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(9, 4)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.table(ids) * scale
        return found, found.sum(1)


class Sees(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean((2, 3))


Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def save(script: Any, name: str = "net.pt") -> Path:
        torch.jit.save(script, tmp_path / name)
        return tmp_path / name

    return save


X = torch.tensor([[1.0, -2.0, 3.0, 0.5]])


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ts"])
@pytest.mark.parametrize("kind", ["traced", "scripted", "frozen"])
def test_a_file_is_loaded_and_answers_as_it_did(saved: Saved, kind: str, name: str) -> None:
    module = Net().eval()
    script = torch.jit.trace(module, X) if kind == "traced" else torch.jit.script(module)
    path = saved(torch.jit.freeze(script) if kind == "frozen" else script, name)
    model: Any = cp.load(f"{path}?x=1x4", trust=True)
    assert [(f.name, f.shape) for f in model.signature.inputs] == [("x", (1, 4))]
    assert {"aten::linear", "aten::relu"} <= {n.operator for n in model.graph.nodes}
    with cp.session(model) as running:
        assert np.array_equal(running.run({"x": X.numpy()})["output"], module(X).detach().numpy())
    made = cp.convert(model, "mlprogram", precision="fp32")
    assert "checked" in made.notes[-1]
    assert any("TorchScript" in note for note in made.notes)


def test_a_file_needs_trust_and_says_so(saved: Saved, tmp_path: Path) -> None:
    path = saved(torch.jit.script(Net()))
    with pytest.raises(UnsafeModelError, match=r"TorchScript[\s\S]*--trust[\s\S]*\?x=1x3x224x224"):
        cp.load(path)
    assert why_unsafe("net.pt?x=1x4", tmp_path) is not None
    with pytest.raises(UnsafeModelError):
        cp.load("net.pt?x=1x4", folder=tmp_path, stored=True)


def test_what_it_is_fed_is_asked_for(saved: Saved) -> None:
    path = saved(torch.jit.script(Embeds()))
    with pytest.raises(InputError) as raised:
        cp.load(path, trust=True)
    said = str(raised.value)
    assert "ids: Tensor, scale: Tensor" in said
    assert f"{path}?ids=" in said
    model: Any = cp.load(f"{path}?ids=int64:1x5&scale=scalar", trust=True)
    assert [(f.name, f.dtype, f.shape) for f in model.signature.inputs] == [
        ("ids", "int64", (1, 5)),
        ("scale", "float32", ()),
    ]
    assert len(model.signature.outputs) == 2
    assert cp.convert(model, "mlprogram").is_program


def test_a_network_of_pictures_says_it_by_its_first_weights(saved: Saved) -> None:
    model: Any = cp.load(saved(torch.jit.script(Sees())), trust=True)
    assert model.signature.inputs[0].shape == (1, 3, 224, 224)
    assert model.feeding is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "forward takes ids: Tensor, scale: Tensor"),
        ("x=1x4", "forward takes ids"),
        ("scale=1x4", "forward takes ids"),
        ("ids=int64:1x5&ids=1x4", "forward takes ids"),
        ("ids=int64:1xn", "'ids' cannot be read"),
        ("ids=int12:1x5", "'ids' cannot be read"),
        ("ids=0x5", "'ids' cannot be read"),
    ],
)
def test_an_example_that_cannot_be_meant_is_said(saved: Saved, query: str, said: str) -> None:
    path = saved(torch.jit.script(Embeds()))
    with pytest.raises(InputError) as raised:
        cp.load(f"{path}?{query}", trust=True)
    assert said in str(raised.value)


def test_an_example_beyond_the_budget_is_refused(saved: Saved) -> None:
    path = saved(torch.jit.script(Embeds()))
    with pytest.raises(cp.CoreproofError, match="memory"):
        cp.load(f"{path}?ids=int64:99999x99999x99&scale=scalar", trust=True)


def test_example_tensors_may_be_given_in_python(saved: Saved) -> None:
    path = saved(torch.jit.script(Net()))
    assert cp.load(path, trust=True, example=(X,)).signature.inputs[0].shape == (1, 4)
    assert cp.load(path, trust=True, example=[X]).signature.inputs[0].shape == (1, 4)
    assert cp.load(path, trust=True, example=X).signature.inputs[0].shape == (1, 4)
    assert cp.load(torch.jit.script(Net()), example={"x": X}).signature.inputs[0].shape == (1, 4)
    with pytest.raises(InputError, match="example inputs are for a PyTorch module"):
        cp.load("a.onnx", example=(X,))


@pytest.mark.parametrize("fed", [X, -X, 3 * X])
def test_its_branches_stay_branches(fed: Any) -> None:
    module = torch.jit.script(Decides().eval())
    model = cp.convert(module, "mlprogram", precision="fp32", example=(X,))
    assert any(node.operator == "cond" for node in model.graph.nodes)
    with cp.session(model) as running:
        found = next(iter(running.run({"x": fed.numpy()}).values()))
    assert np.allclose(found, module(fed).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("times", [1, 9])
def test_its_loops_stay_loops(times: int) -> None:
    module = torch.jit.script(Doubles().eval())
    model = cp.convert(module, "mlprogram", precision="fp32", example=(torch.ones(1, 4),))
    assert any(node.operator == "while_loop" for node in model.graph.nodes)
    fed = times * torch.ones(1, 4)
    with cp.session(model) as running:
        assert np.array_equal(next(iter(running.run({"x": fed.numpy()}).values())), module(fed).numpy())


def test_a_scripted_part_of_a_module_stays_a_branch() -> None:
    class Holds(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.part = torch.jit.script(Decides().eval())

        def forward(self, x: Any) -> Any:
            return self.part(x * 0.5) + 1

    module = Holds()
    model = cp.convert(module, "onnx", example=(X,))
    assert any(node.operator == "If" for node in model.graph.nodes)
    for fed in (X, -X):
        with cp.session(model) as running:
            found = next(iter(running.run({"x": fed.numpy()}).values()))
        assert np.allclose(found, module(fed).detach().numpy(), atol=1e-5)
    assert cp.verify(cp.load(module, example=(X,)), model).agrees


def decided(x: torch.Tensor) -> torch.Tensor:
    if bool(x.sum() > 0):
        return x * 2
    return x - 1


class Calls(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.function = torch.jit.script(decided)

    def forward(self, x: Any) -> Any:
        return self.function(x.sin()) + 1


@pytest.mark.thorough
def test_a_scripted_function_stays_a_branch() -> None:
    model = cp.convert(Calls(), "mlprogram", precision="fp32", example=(X,))
    assert any(node.operator == "cond" for node in model.graph.nodes)
    for fed in (X, -X):
        with cp.session(model) as running:
            found = next(iter(running.run({"x": fed.numpy()}).values()))
        assert np.allclose(found, Calls()(fed).numpy(), atol=1e-5)
    assert cp.verify(cp.load(Calls(), example=(X,)), model).agrees


def test_free_lengths_of_a_program_are_kept_free() -> None:
    module = torch.jit.script(Net().eval())
    model = cp.convert(module, "mlprogram", precision="fp32", example=(X,), shapes={"x": [(1, 6), 4]})
    with cp.session(model) as running:
        fed = np.ones((5, 4), np.float32)
        assert np.allclose(
            next(iter(running.run({"x": fed}).values())), module(torch.from_numpy(fed)).detach().numpy(), atol=1e-5
        )


def test_verify_holds_a_program_against_what_was_made_of_it(saved: Saved, tmp_path: Path) -> None:
    model = cp.load(saved(torch.jit.script(Embeds().eval())), trust=True, example=(torch.ones(1, 5).long(), X[0, 0]))
    made = cp.convert(model, "onnx")
    found = cp.verify(model, made)
    assert found.agrees
    assert len(found.outputs) == 2


def test_programs_with_other_code_have_other_digests() -> None:
    class Other(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.linear(x))

    digests = {model_digest(cp.load(torch.jit.script(kind()), example=(X,))) for kind in (Net, Other)}
    assert len(digests) == 2


def test_a_damaged_file_is_said(saved: Saved) -> None:
    path = saved(torch.jit.script(Net()))
    import zipfile

    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(path.with_name("half.pt"), "w") as half:
        for name in whole.namelist():
            if "code/" not in name:
                half.writestr(name, whole.read(name))
    with pytest.raises(UnreadableModelError, match="TorchScript program cannot be read"):
        cp.load(f"{path.with_name('half.pt')}?x=1x4", trust=True)


def test_the_command_line_takes_a_file_with_its_example(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coreproof.cli.main import main

    source, made = f"{saved(torch.jit.script(Net()))}?x=1x4", str(tmp_path / "net.mlpackage")
    for line in (["show", source], ["convert", source, made], ["verify", source, made], ["check", source]):
        monkeypatch.setattr("sys.argv", ["coreproof", *line, "--trust"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, (line, capsys.readouterr())
