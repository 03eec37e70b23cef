"""Which outputs tell classes: one class over all inputs proves little of a classifier, and nothing is said of what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import coreproof as cp
from coreproof.comparison.over_inputs import InputComparison
from coreproof.proof.document import Proof
from tests.cli.conftest import Ran, coreproof

__all__ = ["coreproof"]

ROWS = np.random.default_rng(3).normal(0, 1, (6, 5)).astype(np.float32)


class Row(nn.Module):
    """One number of the last row of four is the largest on every input; ``end`` makes the output of the row."""

    def __init__(self, end: Callable[[Tensor], object] = lambda row: row, largest: float = 40.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.last, self.end = nn.Linear(5, 8), nn.Linear(8, 4), end
        with torch.no_grad():
            self.last.bias[2] += largest

    def forward(self, x: Tensor) -> object:
        return self.end(self.last(torch.relu(self.hidden(x))))


def source(module: nn.Module, **more: object) -> cp.Source:
    return cp.Source(module.eval(), (torch.zeros(1, 5),), **more)  # type: ignore[arg-type]


def over(module: nn.Module, **more: object) -> InputComparison:
    given = [{"x": row[None]} for row in ROWS]
    return cp.compare_inputs({"net": source(module, **more)}, given)


def proved(module: nn.Module, out: Path, rows: np.ndarray = ROWS) -> Proof:
    return cp.prove(
        source(module), None, out, inputs=[{"x": row[None]} for row in rows], precision="fp32", witness=False
    )


def kinds(found: Proof | InputComparison) -> dict[str, bool]:
    return {w.kind: w.fails for w in found.weaknesses}


TELLING: dict[str, tuple[Callable[[Tensor], object], dict[str, object]]] = {
    "scores": (lambda row: row, {}),
    "softmax": (lambda row: torch.softmax(row, -1), {}),
    "flat": (lambda row: row[0], {}),
    "index": (lambda row: row.argmax(-1), {}),
    "labelled": (lambda row: torch.tanh(row / 40), {"labels": ("a", "b", "c", "d")}),
    "two": (lambda row: {"logits": row, "embedding": row[:, :2]}, {}),
}


@pytest.mark.parametrize("form", TELLING)
def test_one_class_on_all_arrays_proves_little(form: str) -> None:
    end, more = TELLING[form]
    found = over(Row(end), **more)
    assert kinds(found)["one-class"]
    assert any("is the only class that output" in w.text for w in found.weaknesses)


@pytest.mark.parametrize("form", TELLING)
def test_of_several_classes_nothing_is_said(form: str) -> None:
    end, more = TELLING[form]
    module = Row(end, largest=0.0).eval()
    # the judge: PyTorch itself names several classes on these rows
    with torch.no_grad():
        named = {int(module.last(torch.relu(module.hidden(torch.tensor(row)))).argmax()) for row in ROWS}
    assert len(named) > 1
    found = over(module, **more)
    assert found.samples == len(ROWS)
    assert {len(classes) for classes in found.classes.values()} == {len(named)}
    assert "one-class" not in kinds(found)


SCALES = torch.tensor([1.0, 20.0, 3.0, 0.5])
SILENT: dict[str, Callable[[Tensor], object]] = {
    "one number": lambda row: row[:, 2:3],
    "unit length": lambda row: torch.nn.functional.normalize(row, dim=-1),
    "by its norm": lambda row: row / row.norm(dim=-1, keepdim=True),
    "squashed": lambda row: torch.tanh(row / 40),
    "positive": lambda row: torch.relu(row),
    "measured back": lambda row: row * SCALES + torch.tensor([1.0, 2.0, 3.0, 4.0]),
    "called so": lambda row: {"embedding": row},
    "boxes": lambda row: {"boxes": row.reshape(1, 1, 4).repeat(1, 3, 1), "scores": torch.sigmoid(row[:, :3])},
    "keypoints": lambda row: {"points": row[:, :3, None].repeat(1, 1, 2), "scores": torch.sigmoid(row[:, :3])},
    "found": lambda row: {
        "scores": torch.softmax(row, -1),
        "kinds": torch.arange(4)[None] * torch.ones_like(row).long(),
    },
    "lengths": lambda row: {"y": row.reshape(1, 2, 2), "lengths": torch.full((1,), 7)},
    "as long as the input": lambda row: torch.cat([row, row[:, :1]], -1),
}


@pytest.mark.parametrize("form", SILENT)
def test_nothing_is_weak_where_a_row_tells_no_classes(form: str) -> None:
    assert "one-class" not in kinds(over(Row(SILENT[form])))


def test_the_network_is_called_what_it_is() -> None:
    class Forecaster(Row):
        pass

    class SpeakerClassifier(Row):
        pass

    assert "one-class" not in kinds(over(Forecaster()))
    assert kinds(over(SpeakerClassifier()))["one-class"]


def test_places_of_a_sequence_are_counted_and_fail_nothing() -> None:
    found = over(Row(lambda row: {"logits": row.reshape(1, 1, 4).repeat(1, 6, 1)}))
    assert kinds(found)["one-class"] is False


def test_a_map_of_scores_has_its_classes_in_front() -> None:
    found = over(Row(lambda row: {"logits": row.reshape(1, 4, 1, 1).repeat(1, 1, 3, 5)}))
    assert list(found.classes["logits"]) == ["2"]
    assert found.classes["logits"]["2"]["net"] == 15 * len(ROWS)


def test_one_of_two_heads_may_name_one_class() -> None:
    shift = torch.tensor([0.0, 0.0, 40.0, 0.0])
    assert kinds(over(Row(lambda row: {"class_a": row, "class_b": row - shift})))["one-class"] is False


def test_a_proof_over_arrays_compares_classes(tmp_path: Path) -> None:
    proof = proved(Row(), tmp_path / "one")
    assert proof.agrees
    assert not proof.proves
    assert "proves little: '2' is the only class that output 'output' names on any input" in proof.text
    proof = proved(Row(largest=0.0), tmp_path / "several")
    assert proof.proves
    assert proof.over_inputs is not None
    assert proof.over_inputs.samples == len(ROWS)
    assert "output by output" in proof.page.read_text()


@pytest.mark.parametrize("form", ["free", "fixed", "flat file"])
def test_each_sample_of_a_batch_counts(form: str, tmp_path: Path) -> None:
    free = form != "fixed"
    example = torch.zeros(len(ROWS), 5)
    model = cp.convert(cp.Source(Row().eval(), (example,)), "onnx", shapes={"x": ["1..16", 5]} if free else None)
    rows: object = {"x": ROWS}
    if form == "flat file":
        rows = tmp_path / "rows.npz"
        np.savez(tmp_path / "rows.npz", x=ROWS)
    proof = cp.prove(model, None, tmp_path / "out", inputs=rows, precision="fp32", batch="1-16" if free else None)  # type: ignore[arg-type]
    assert kinds(proof)["one-class"], proof.text
    assert "(6 inputs" in proof.text or "6 inputs)" in proof.text


@pytest.mark.thorough
def test_rows_of_an_open_batch_are_samples_of_models_that_take_one(tmp_path: Path) -> None:
    cp.convert(source(Row(largest=0.0)), "onnx", shapes={"x": ["1..16", 5]}).save(tmp_path / "net.onnx")
    np.savez(tmp_path / "rows.npz", x=ROWS)
    proof = cp.prove(tmp_path / "net.onnx", None, tmp_path / "out", inputs=tmp_path / "rows.npz", precision="fp32")
    assert proof.proves, proof.text
    assert proof.over_inputs is not None
    assert proof.over_inputs.samples == len(ROWS)
    assert cp.check_proof(tmp_path / "out", tmp_path / "net.onnx", inputs=tmp_path / "rows.npz")


def test_a_mask_of_classes_beside_them_makes_scores_no_less_so() -> None:
    class Masked(Row):
        def forward(self, x: Tensor, allowed: Tensor) -> Tensor:  # type: ignore[override]
            return self.last(torch.relu(self.hidden(x))) + allowed

    net = cp.Source(Masked().eval(), (torch.zeros(1, 5), torch.zeros(1, 4)))
    given = [{"x": row[None], "allowed": np.zeros((1, 4), np.float32)} for row in ROWS]
    assert kinds(cp.compare_inputs({"net": net}, given))["one-class"]


@pytest.mark.thorough
def test_one_input_is_no_comparison(tmp_path: Path) -> None:
    proof = proved(Row(), tmp_path / "out", rows=ROWS[:1])
    assert proof.proves
    assert proof.over_inputs is None


@pytest.mark.thorough
def test_the_command_line_says_so_of_a_file(tmp_path: Path, coreproof: Callable[..., Ran]) -> None:
    cp.convert(source(Row()), "onnx").save(tmp_path / "net.onnx")
    np.savez(tmp_path / "rows.npz", x=ROWS)
    line = ("prove", tmp_path / "net.onnx", "--inputs", tmp_path / "rows.npz", "--out", tmp_path / "out")
    ran = coreproof(*line)
    assert ran.code == 1
    assert "but that proves little: '2' is the only class that output 'output' names on any input" in ran.out
    assert coreproof(*line, "--allow-weak").code == 0


@pytest.mark.thorough
def test_photos_of_an_embedding_are_compared_by_their_values(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(np.full((4, 4, 3), 90 * number, np.uint8)).save(tmp_path / "photos" / f"{number}.png")

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            pooled = x.mean((2, 3)) + torch.tensor([1.0, 9.0, 2.0])
            return nn.functional.normalize(pooled, dim=-1)

    net = cp.Source(Net(), (torch.zeros(1, 3, 4, 4),), feeding=cp.Feeding(size=(4, 4), scale=1 / 255))
    proof = cp.prove(net, tmp_path / "photos", tmp_path / "out", precision="fp32", witness=False)
    assert proof.proves, proof.text
    assert proof.comparison is None
