"""Whole numbers that leave the 32 bits of Core ML: named in the verdict, and a disagreement where a run has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import RunError

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Hash(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, ids: Any) -> Any:
        return (ids * 1000003) % 1000


class Product(torch.nn.Module):  # type: ignore[misc,name-defined]
    """The product is the output itself."""

    def forward(self, a: Any, b: Any) -> Any:
        return a * b


class Sum(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, ids: Any) -> Any:
        return ids.sum(1, keepdim=True) - 1


class Cast(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, ids: Any) -> Any:
        return (ids.float() * 1000003).long() % 1000


SMALL, LARGE = torch.tensor([[1, 5, 7]]), torch.tensor([[1, -700000, 5]])


def _stored(module: Any, inputs: tuple[Any, ...], place: Path) -> Path:
    cp.convert((module, inputs), "mlprogram", precision="fp32").save(place / "net.mlpackage")
    return place / "net.mlpackage"


def test_a_guarded_product_is_counted_where_all_agrees(tmp_path: Path) -> None:
    found = cp.verify((Hash(), (SMALL,)), _stored(Hash(), (SMALL,), tmp_path))
    assert found
    assert found.proves
    assert found.to_json()["guarded_integers"] == ["mul"]
    assert "1 value of whole numbers is computed in 32 bits" in found.summary()


@pytest.mark.sweep(1)
@pytest.mark.parametrize("to", ["module", "onnx"])
def test_a_run_that_leaves_the_32_bits_is_a_disagreement_that_names_the_value(to: str, tmp_path: Path) -> None:
    stored = _stored(Hash(), (SMALL,), tmp_path)
    source = (Hash(), (SMALL,)) if to == "module" else cp.convert((Hash(), (SMALL,)), "onnx")
    fed = {"ids": LARGE.numpy()}
    found = cp.verify(source, stored, fed)
    assert not found
    assert found.first_divergence is not None
    assert found.first_divergence.candidate == "mul"
    largest = int(LARGE.min()) * 1000003  # in Python, which has no end of whole numbers
    assert f"{largest:,}" in found.summary()
    assert "does not fit the 32 bits" in found.summary()
    assert cp.verify(source, stored, {"ids": SMALL.numpy()})
    # either way round
    back = cp.verify(stored, source, fed)
    assert not back
    assert f"{largest:,}" in back.summary()


def test_the_modules_own_example_is_tried_where_inputs_are_drawn(tmp_path: Path) -> None:
    inputs = (SMALL, torch.full((1, 3), 400_000_000))
    stored = _stored(Product(), (SMALL, SMALL), tmp_path)
    found = cp.verify((Product(), inputs), stored)
    assert not found
    assert "2,800,000,000 in Product does not fit" in found.summary()
    assert "the example inputs" in found.inputs


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("module", "fed"), [(Sum(), [[2_000_000_000, 2_000_000_000, 1]]), (Cast(), [[1, -700000, 5]])])
def test_sums_and_casts_are_guarded_too(module: Any, fed: list[list[int]], tmp_path: Path) -> None:
    found = cp.verify((module, (SMALL,)), _stored(module, (SMALL,), tmp_path), {"ids": np.array(fed)})
    assert not found
    assert found.guarded
    assert "does not fit the 32 bits" in found.summary()


def test_two_models_that_both_fail_are_no_disagreement(tmp_path: Path) -> None:
    stored = _stored(Hash(), (SMALL,), tmp_path)
    with pytest.raises(RunError, match="does not fit the 32 bits"):
        cp.verify(stored, stored, {"ids": LARGE.numpy()})


def test_the_chain_goes_on_and_tells_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", ids=LARGE.numpy())
    proof = cp.prove((Hash(), (SMALL,)), None, tmp_path / "proof", inputs=tmp_path / "large.npz", witness=False)
    assert not proof
    told = [s.text for s in proof.steps if s.kind == "verify" and s.candidate in ("t2c", "t2c16")]
    assert len(told) == 2
    assert all("does not fit the 32 bits" in text for text in told)
    assert (tmp_path / "proof" / "index.html").exists()
