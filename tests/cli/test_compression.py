"""``coreproof convert --compress`` as a user types it: what is printed, the proof that is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from tests.cli.conftest import Ran
from tests.precision.test_compression import X, source

Run = Callable[..., Ran]


@pytest.mark.thorough
def test_a_compressed_model_its_table_and_its_proof(tmp_path: Path, coreproof: Run) -> None:
    model, out, proof, fed = (tmp_path / name for name in ("m.onnx", "m.mlpackage", "proof.json", "x.npz"))
    source().save(model)
    np.savez(fed, x=X)
    asked = [
        "convert",
        model,
        out,
        "--compress",
        "palettize:4",
        "--keep-size",
        "Gemm",
        "--inputs",
        fed,
        "--proof",
        proof,
    ]
    done = coreproof(*asked)
    assert done.code == 0, done.err
    assert "1 of 2 weights compressed" in done.out
    assert "c:weight" in done.out
    assert "of x.npz" in done.out
    assert [weight["kept"] for weight in json.loads(proof.read_text())["weights"]] == [False, True]
    assert "constexpr_lut_to_dense" in {node.operator for node in cp.load(out).graph.nodes}
    again = coreproof(*asked, "--at-most-loss", "0.5")
    assert again.code == 0, again.err
    assert "left as they are for a loss of at most 0.5: none" in again.out
    out.with_name("proof.json").write_text("{}")
    assert coreproof(*asked).code == 2, "something else stands where the proof would"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("--keep-size", "conv"), "go with --compress"),
        (("--at-most-loss", "0.1"), "go with --compress"),
        (("--compress", "palettize:5"), "is not understood"),
        (("--compress", "linear:4", "--target", "iOS17"), "--target iOS18"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    said: tuple[str, ...], expected: str, tmp_path: Path, coreproof: Run
) -> None:
    source().save(tmp_path / "m.onnx")
    done = coreproof("convert", tmp_path / "m.onnx", tmp_path / "m.mlpackage", *said)
    assert done.code == 2
    assert expected in done.err
    assert not (tmp_path / "m.mlpackage").exists()
