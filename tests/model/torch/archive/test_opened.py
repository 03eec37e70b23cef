"""Programs (.pt2) that are opened without trust, and what is said of those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")
from tests.model.torch.archive.programs import SIZES, Sizes, Small, exported, older, rewritten, saved  # noqa: E402 - it needs torch

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, as it exports


# what is opened


def test_a_program_computes_what_its_module_computes(tmp_path: Path) -> None:
    module = Small().eval()
    x = torch.randn(2, 4)
    torch.export.save(exported(module, x), tmp_path / "a.pt2")
    model = cp.load(tmp_path / "a.pt2")
    with cp.session(model) as session:
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_array_equal(found, module(x).detach().numpy())


@pytest.mark.sweep(2)
@pytest.mark.parametrize("form", SIZES, ids=str)
@pytest.mark.parametrize("free", [False, True], ids=["static", "free"])
def test_programs_with_computed_sizes_are_opened_without_trust(tmp_path: Path, form: str, free: bool) -> None:
    path = tmp_path / "sizes.pt2"
    torch.export.save(exported(Sizes(SIZES[form]), torch.ones(6, 4), free=free), path)
    assert [f.shape for f in cp.load(path).signature.inputs] == [(6, 4)]


@pytest.mark.thorough
def test_programs_with_free_pictures_and_branches_are_opened_without_trust(tmp_path: Path) -> None:
    class Resized(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            wide = torch.nn.functional.interpolate(x, scale_factor=1.5, mode="bilinear")
            return wide, torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)), x.nonzero()

    path = tmp_path / "resized.pt2"
    dynamic = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(Resized(), (torch.ones(2, 3, 8, 8),), dynamic_shapes=dynamic), path)
    assert cp.load(path).signature.outputs[0].shape == (2, 3, 12, 12)


def test_half_complex_and_empty_weights_are_read_as_they_are_stored(tmp_path: Path) -> None:
    class Kinds(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, dtype in (
                ("h", "float16"),
                ("b", "bfloat16"),
                ("c", "complex64"),
                ("i", "int8"),
                ("d", "float64"),
            ):
                self.register_buffer(name, torch.ones(2, 3, dtype=getattr(torch, dtype)).T)
            self.register_buffer("empty", torch.ones(0, 3))
            self.register_buffer("scalar", torch.tensor(2.0))
            self.register_buffer("mask", torch.tensor([True, False]))

        def forward(self, x: Any) -> Any:
            total = self.h.float() + self.b.float() + self.c.abs() + self.i + self.d
            return total.sum() + self.empty.sum() + self.scalar + self.mask.sum() + x

    path = tmp_path / "kinds.pt2"
    torch.export.save(exported(Kinds(), torch.zeros(2)), path)
    assert cp.load(path).example_outputs["output"].tolist() == [33.0, 33.0]


def test_dictionaries_and_extra_text_are_opened(tmp_path: Path) -> None:
    class Named(torch.nn.Module):
        def forward(self, target: Any, metadata: Any) -> Any:
            return {"sum": target + metadata, "pair": (target * 2, [metadata])}

    path = tmp_path / "named.pt2"
    torch.export.save(exported(Named(), torch.ones(2), torch.ones(2)), path, extra_files={"labels.txt": "cat\ndog"})
    assert set(cp.load(path).graph.inputs) == {"target", "metadata"}


def test_an_archive_of_an_older_pytorch_is_opened(tmp_path: Path) -> None:
    model = cp.load(older(tmp_path / "older.pt2"))
    expected = Small().eval()(torch.ones(2, 4))
    torch.testing.assert_close(model.example_outputs["output"], expected, rtol=0, atol=0)


def test_older_weights_inside_a_newer_archive_are_opened(tmp_path: Path, good: Path) -> None:
    state = exported(Small(), torch.ones(2, 4)).state_dict
    path = rewritten(good, tmp_path / "a.pt2", {}, {"data/weights/model.pt": saved(state)})
    assert cp.load(path).signature.outputs[0].shape == (2, 3)
