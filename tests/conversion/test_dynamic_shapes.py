"""convert of a module with its example and its dynamic shapes, and shapes that stay as they were asked for in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, InputError

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Adds(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any, y: Any) -> Any:
        return x + y.unsqueeze(0), y * 2


EXAMPLE = (torch.ones(2, 5), torch.ones(5))


def dims(model: Any) -> list[list[str]]:
    return [[str(d) for d in f.shape] for f in model.signature.inputs]


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["by name", "in order", "as lists"])
def test_lengths_are_free_as_torch_export_says_it(form: str) -> None:
    batch, length = torch.export.Dim("batch", min=1, max=8), torch.export.Dim("length", min=2, max=64)
    said: Any = {"x": {0: batch, 1: length}, "y": {0: length}}
    if form == "in order":
        said = ({0: batch, 1: length}, {0: length})
    if form == "as lists":
        said = {"x": [batch, length], "y": [length]}
    model: Any = cp.convert(Adds(), "onnx", example=EXAMPLE, dynamic_shapes=said)
    assert dims(model) == [["batch", "length"], ["length"]]
    program: Any = cp.convert(Adds(), "mlprogram", precision="fp32", example=EXAMPLE, dynamic_shapes=said)
    with cp.session(program) as running:
        fed = {"x": np.ones((3, 7), np.float32), "y": np.arange(7, dtype=np.float32)}
        assert np.array_equal(next(iter(running.run(fed).values())), fed["x"] + fed["y"])


def test_lengths_that_are_left_out_stay_fixed() -> None:
    said = {"x": {0: torch.export.Dim("batch")}, "y": None}
    model = cp.convert(Adds(), "onnx", example=EXAMPLE, dynamic_shapes=said)
    assert dims(model) == [["batch", "5"], ["5"]]
    hinted = cp.convert(Adds(), "onnx", example=EXAMPLE, dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}})
    assert dims(hinted)[1] == ["5"]
    assert dims(hinted)[0][0] != "2"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"z": {0: None}}, "inputs that the model does not have"),
        (({},), "an entry for each input"),
        (3, "an entry for each input"),
        ({"x": {5: torch.export.Dim("n")}}, "by axis"),
        ({"x": {0: "n"}}, "no free length"),
        ({"x": {0: 2 * torch.export.Dim("n")}}, "no free length"),
    ],
)
def test_what_no_dynamic_shape_is_is_said(said: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        cp.convert(Adds(), "onnx", example=EXAMPLE, dynamic_shapes=said)


def test_shapes_and_dynamic_shapes_are_said_once() -> None:
    with pytest.raises(InputError, match="give one of them"):
        cp.convert(Adds(), "onnx", example=EXAMPLE, dynamic_shapes={}, batch=3)


def test_an_exported_program_is_converted_as_it_is() -> None:
    program = torch.export.export(Adds(), EXAMPLE)
    for to in ("onnx", "mlprogram"):
        model = cp.convert(program, to)  # type: ignore[arg-type]
        assert [f.name for f in model.signature.inputs] == ["x", "y"]
    with pytest.raises(InputError, match="example inputs are for a PyTorch module"):
        cp.convert(program, "onnx", example=EXAMPLE)


class Nets(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return self.conv(x).relu()


PICTURE = (torch.ones(1, 3, 8, 8),)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("asked", "expected", "fed"),
    [
        ({"shapes": {"x": [(1, 4), 3, (4, 32), (4, 32)]}}, None, (2, 3, 5, 7)),
        ({"shapes": {"x": "1x3x16x8"}}, ["1", "3", "16", "8"], (1, 3, 16, 8)),
        ({"shapes": {"x": "1x3x8x8|1x3x16x16"}}, None, (1, 3, 16, 16)),
        ({"batch": 4}, ["4", "3", "8", "8"], (4, 3, 8, 8)),
        ({"batch": "1-4"}, ["batch", "3", "8", "8"], (3, 3, 8, 8)),
    ],
)
def test_shapes_reach_the_onnx_model(asked: Any, expected: Any, fed: tuple[int, ...]) -> None:
    module = Nets().eval()
    model: Any = cp.convert(module, "onnx", example=PICTURE, **asked)
    if expected is not None:
        assert dims(model) == [expected]
    given = np.random.default_rng(0).normal(size=fed).astype(np.float32)
    with cp.session(model) as running:
        found = next(iter(running.run({"x": given}).values()))
    assert np.allclose(found, module(torch.from_numpy(given)).detach().numpy(), atol=1e-5)
    assert [str(d) for d in model.signature.outputs[0].shape[2:]] == dims(model)[0][2:]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"y": [(1, 4)]}, r"1 lengths(?s:.)*\['1\.\.4'\]"),
        ({"x": (2, 5), "y": [(1, 4)]}, "1 lengths"),
        ({"x": [1, 2, (2, 5)]}, "2 lengths"),
    ],
)
def test_shapes_of_another_rank_are_refused_before_anything_is_traced(asked: Any, told: str) -> None:
    """A pair alone is one whole shape: it ended as an IndexError of PyTorch's exporter."""
    for to in ("onnx", "mlprogram"):
        with pytest.raises(ConversionError, match=f"another rank(?s:.)*{told}"):
            cp.convert(Adds(), to, example=EXAMPLE, shapes=asked)  # type: ignore[arg-type]
    cp.convert(Adds(), "mlprogram", example=EXAMPLE, shapes={"x": [2, (2, 9)], "y": ["2..9"]})


def test_shapes_of_an_onnx_model_are_not_freed() -> None:
    model = cp.convert(Nets(), "onnx", example=PICTURE)
    with pytest.raises(InputError, match="shapes are freed where"):
        cp.convert(model, "onnx", batch=4)


def test_the_command_line_frees_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coreproof.cli.main import main

    torch.export.save(torch.export.export(Nets().eval(), PICTURE), tmp_path / "net.pt2")
    onnx = str(tmp_path / "net.onnx")
    (tmp_path / "net.py").write_text(
        "import torch\ndef model():\n    return torch.nn.Conv2d(3, 2, 3), (torch.ones(1, 3, 8, 8),)\n"
    )
    monkeypatch.setattr("sys.argv", ["coreproof", "convert", f"{tmp_path / 'net.py'}:model", onnx, "--batch", "1-4"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert dims(cp.load(onnx))[0][0] == "batch"
    monkeypatch.setattr("sys.argv", ["coreproof", "convert", onnx, str(tmp_path / "b.onnx"), "--batch", "4"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
