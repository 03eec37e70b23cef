"""``coreproof verify MODEL --half`` and ``coreproof convert --keep-fp32`` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.conftest import Ran


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """Two matrix products with a relu between, right in float32: ordinary, and with the first 1e6 times as large."""
    paths = []
    for name, factor in (("ordinary", 1.0), ("large", 1e6)):
        rng = np.random.default_rng(3)
        a = (rng.normal(size=(8, 8)) * factor).astype(np.float32)
        b = (rng.normal(size=(8, 4)) / factor).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "a"], ["first"]),
                helper.make_node("Relu", ["first"], ["middle"]),
                helper.make_node("MatMul", ["middle", "b"], ["y"]),
            ],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
            [numpy_helper.from_array(a, "a"), numpy_helper.from_array(b, "b")],
        )
        paths.append(tmp_path / f"{name}.onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), paths[-1])
    return paths[0], paths[1]


Run = Callable[..., Ran]


def test_a_safe_model_and_one_that_overflows(models: tuple[Path, Path], tmp_path: Path, coreproof: Run) -> None:
    ordinary, large = models
    safe = coreproof("verify", ordinary, "--half")
    assert safe.code == 0, safe.out + safe.err
    assert "float16 is safe" in safe.out
    assert "not modelled" in safe.out

    unsafe = coreproof("verify", large, "--half")
    assert unsafe.code == 1, unsafe.err
    assert "overflow" in unsafe.out
    kept = unsafe.out.split("--keep-fp32 ")[1].split()[0]
    assert kept == "first,middle,y"

    np.savez(tmp_path / "x.npz", x=np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32))
    codes = []
    for name, extra in (("narrow", ()), ("mixed", ("--keep-fp32", kept))):
        package = tmp_path / f"{name}.mlpackage"
        assert coreproof("convert", large, package, *extra).code == (0 if extra else 1)  # it runs what it made
        codes.append(coreproof("verify", large, package, "--inputs", tmp_path / "x.npz").code)
    assert codes == [1, 0]


def test_json_and_given_inputs(models: tuple[Path, Path], tmp_path: Path, coreproof: Run) -> None:
    np.savez(tmp_path / "tiny.npz", x=np.full((2, 8), 1e-4, np.float32))
    ran = coreproof("verify", models[1], "--half", "--inputs", tmp_path / "tiny.npz", "--json")
    found = json.loads(ran.out)
    assert ran.code == 1, "the weights themselves do not fit, whatever is fed"
    assert "tiny.npz" in found["inputs"]
    assert {r["operator"]: r["status"] for r in found["rows"]}["relu"] == "ok"
    assert any(r["status"] == "constant" for r in found["rows"])


def test_half_takes_one_model_and_convert_known_names(
    models: tuple[Path, Path], tmp_path: Path, coreproof: Run
) -> None:
    two = coreproof("verify", *models, "--half")
    assert two.code == 2
    assert "one model" in two.err
    unknown = coreproof("convert", models[0], tmp_path / "a.mlpackage", "--keep-fp32", "first,nobody")
    assert unknown.code == 2
    assert "nobody" in unknown.err
    assert not (tmp_path / "a.mlpackage").exists()


@pytest.mark.parametrize(("x", "y"), [("input.1", "output:0"), ("0", "1"), ("/a/b", "x")])
def test_features_whose_names_core_ml_cannot_have_are_fed_all_the_same(
    coreproof: Callable[..., Ran], models: tuple[Path, Path], tmp_path: Path, x: str, y: str
) -> None:
    proto = onnx.load(models[0])
    first, _, last = proto.graph.node
    first.input[0] = proto.graph.input[0].name = x
    last.output[0] = proto.graph.output[0].name = y
    onnx.save(proto, tmp_path / "named.onnx")
    np.savez(tmp_path / "own.npz", **{x: np.ones((2, 8), np.float32)})
    for given in ([], ["--inputs", tmp_path / "own.npz"]):
        ran = coreproof("verify", tmp_path / "named.onnx", "--half", *given)
        assert ran.code == 0, ran.err
        assert "float16 is safe" in ran.out
