"""`doctor` and `prove` take arrays as `verify` does, and say for what they took inputs that they draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import coreproof as cp
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A table of 40,000 rows, a mask, and a projection."""
    graph = onnx.parser.parse_graph(
        "net (int64[1,6] ids, int64[1,6] mask) => (float[1,6,3] y)"
        " { x = Gather(table, ids)  f = Cast<to=1>(mask)  u = Unsqueeze(f, last)  m = Mul(x, u)  y = MatMul(m, w) }"
    )
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((40_000, 4)).astype(np.float32),
        "w": rng.standard_normal((4, 3)).astype(np.float32),
        "last": np.array([-1]),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    path = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "given.npz"
    np.savez(path, **{"ids/0": np.full((1, 6), 7), "ids/1": np.full((1, 6), 9), "mask": np.ones((2, 1, 6), np.int64)})
    return path


def test_verify_says_for_what_inputs_were_taken(coreproof: Run, source: Path, tmp_path: Path) -> None:
    ran = coreproof("verify", source, source)
    assert ran.code == 0, ran.out
    assert "ids: indices of 40,000 rows of `table`" in ran.out
    assert "mask: a mask, by its name: 0 or 1" in ran.out


def test_prove_takes_arrays(coreproof: Run, source: Path, given: Path, tmp_path: Path) -> None:
    ran = coreproof("prove", source, "--inputs", given, "--out", tmp_path / "out", "--allow-weak")
    assert ran.code == 0, ran.out
    proof = json.loads((tmp_path / "out" / "proof.json").read_text())
    verified = [step for step in proof["steps"] if step["kind"] == "verify"]
    assert len(verified) == 3
    assert all(step["samples"] == 2 and "of given.npz" in step["inputs"] for step in verified)


def test_prove_draws_where_nothing_is_given(coreproof: Run, source: Path, tmp_path: Path) -> None:
    ran = coreproof("prove", source, "--out", tmp_path / "out")
    assert ran.code == 0, ran.out
    proof = json.loads((tmp_path / "out" / "proof.json").read_text())
    taken = [step["taken_for"] for step in proof["steps"] if step["kind"] == "verify"]
    assert {each["ids"] for each in taken} == {"indices of 40,000 rows of `table`"}
    assert "indices of 40,000 rows of `table`" in (tmp_path / "out" / "index.html").read_text()


def test_doctor_takes_arrays_and_says_for_what_it_took_inputs(
    coreproof: Run, source: Path, given: Path, tmp_path: Path
) -> None:
    made = cp.convert(source, "mlprogram").save(tmp_path / "net.mlpackage")
    ran = coreproof("doctor", made, "--against", source, "--inputs", given, "--json")
    assert ran.code == 0, ran.out
    assert json.loads(ran.out)["inputs"].startswith("2 samples of ids int64[1x6]")
    drawn = coreproof("doctor", made, "--against", source)
    assert "ids: indices of 40,000 rows of `table`" in drawn.out


@pytest.mark.parametrize("verb", ["verify", "doctor", "prove"])
def test_all_that_does_not_fit_is_said_at_once(coreproof: Run, source: Path, tmp_path: Path, verb: str) -> None:
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, ids=np.full((1, 5), 0.5), extra=np.zeros(3))
    after = {"verify": (source,), "doctor": ("--against", source), "prove": ("--out", tmp_path / "out")}[verb]
    ran = coreproof(verb, source, *after, "--inputs", wrong)
    assert ran.code == 2
    told = " ".join((ran.out + ran.err).split())
    for words in (
        "no input is called extra",
        "nothing is given for mask",
        "ids has the shape 1x5",
        "ids holds numbers that are not whole",
    ):
        assert words in told, told


def test_numbers_beyond_the_dtype_do_not_fit(coreproof: Run, tmp_path: Path) -> None:
    graph = onnx.parser.parse_graph("net (int32[4] n) => (int32[4] y) { y = Neg(n) }")
    path = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    np.savez(tmp_path / "n.npz", n=np.array([1, 2, 3, 2**40]))
    ran = coreproof("verify", path, path, "--inputs", tmp_path / "n.npz")
    assert ran.code == 2
    assert f"{2**40}, which int32 cannot hold" in " ".join((ran.out + ran.err).split())
