"""prove, verify and doctor --against come to the same conclusion about the same two files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import coreproof as cp
from coreproof.doctor.diagnose import Diagnosis
from coreproof.proof.document import Proof
from coreproof.verification.verification import Verification
from tests.build import onnx_proto
from tests.cli.conftest import Ran, coreproof

__all__ = ["coreproof"]

SIDE = 16
FED = cp.Feeding(size=(SIDE, SIDE), scale=1 / 64, mean=(2.0,))
RNG = np.random.default_rng(11)


def floats(*shape: int, size: float = 1.0) -> np.ndarray:
    return (size * RNG.normal(size=shape)).astype(np.float32)


def net(
    nodes: Sequence[onnx.NodeProto], weights: dict[str, Any], outputs: Sequence[str] = ("y",), **inputs: Any
) -> Any:
    declared = inputs or {"x": [1, 3, SIDE, SIDE]}
    return onnx.shape_inference.infer_shapes(onnx_proto(nodes, declared, dict.fromkeys(outputs), weights))


def op(kind: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, reads.split(), makes.split(), name=f"{kind}_{makes}", **attributes)


HEAD = [op("GlobalAveragePool", "c", "p"), op("Flatten", "p", "f"), op("Gemm", "f wf bf", "y", transB=1)]
ENDS = {"wf": floats(10, 8), "bf": floats(10)}


def quantised(scale: float = 0.05) -> Any:
    weights = {
        "s": np.float32(0.03), "z": np.uint8(128), "ws": np.float32(0.01), "wz": np.int8(0), "s2": np.float32(scale),
        "w": np.random.default_rng(7).integers(-127, 127, (8, 3, 3, 3)).astype(np.int8),
    }  # fmt: skip
    nodes = [
        op("QuantizeLinear", "x s z", "q"),
        op("QLinearConv", "q s z w ws wz s2 z", "d", pads=[1, 1, 1, 1]),
        op("DequantizeLinear", "d s2 z", "c"),
    ]
    return net([*nodes, *HEAD], {**weights, **ENDS})


def convolution(last: Sequence[onnx.NodeProto] = (), **more: Any) -> Any:
    nodes = [op("Conv", "x w", "a", pads=[1, 1, 1, 1]), op("Relu", "a", "c"), *HEAD]
    if last:
        nodes[-1] = op("Gemm", "f wf bf", "g", transB=1)
    return net(
        [*nodes, *last], {"w": np.random.default_rng(5).normal(size=(8, 3, 3, 3)).astype(np.float32), **ENDS, **more}
    )


def overflowing() -> Any:
    """A square beyond float16 that reaches the output."""
    return convolution([op("Mul", "g big", "h"), op("Mul", "h h", "y")], big=np.float32(500))


def clipped() -> Any:
    """The same, cut off behind."""
    return convolution(
        [op("Mul", "g big", "h"), op("Mul", "h h", "m"), op("Min", "m most", "y")],
        big=np.float32(500),
        most=np.float32(100),
    )


def not_a_number() -> Any:
    return convolution(
        [op("Abs", "g", "h"), op("Neg", "h", "m"), op("Sub", "m big", "n"), op("Log", "n", "y")], big=np.float32(1)
    )


def dead() -> Any:
    return convolution([op("Sub", "g big", "h"), op("Relu", "h", "y")], big=np.float32(1e4))


def attention() -> Any:
    """Patches of a picture, one attention layer over them, and a classifier."""
    heads, width, patches = 2, 16, 16
    weights = {
        "w": floats(width, 3, 4, 4, size=0.2), "b": floats(width), "position": floats(1, patches, width),
        "flat": np.array([1, width, patches]), "split": np.array([1, patches, heads, width // heads]),
        "whole": np.array([1, patches, width]), "root": np.float32((width // heads) ** -0.5),
        **{f"w{n}": floats(width, width, size=width**-0.5) for n in "qkvo"},
        "gamma": 1 + floats(width, size=0.1), "beta": floats(width, size=0.1), "wf": floats(width, 10), "bf": floats(10),
    }  # fmt: skip
    nodes = [
        op("Conv", "x w b", "a", strides=[4, 4]),
        op("Reshape", "a flat", "t"),
        op("Transpose", "t", "tokens", perm=[0, 2, 1]),
        op("Add", "tokens position", "h"),
        op("LayerNormalization", "h gamma beta", "n"),
    ]
    for name in "qkv":
        nodes += [op("MatMul", f"n w{name}", f"{name}0"), op("Reshape", f"{name}0 split", f"{name}1")]
        nodes.append(op("Transpose", f"{name}1", name, perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]))
    nodes += [
        op("MatMul", "q k", "s0"),
        op("Mul", "s0 root", "s"),
        op("Softmax", "s", "attended"),
        op("MatMul", "attended v", "o0"),
        op("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
        op("Reshape", "o1 whole", "o2"),
        op("MatMul", "o2 wo", "o3"),
        op("Add", "h o3", "r"),
        op("ReduceMean", "r", "mean", axes=[1], keepdims=0),
        op("MatMul", "mean wf", "l"),
        op("Add", "l bf", "y"),
    ]
    return net(nodes, weights)


def tokens() -> Any:
    """Token numbers and a mask, looked up in a table of 300, through a masked softmax."""
    weights = {
        "table": floats(300, 8), "one": np.float32(1), "most": np.float32(-1e4), "axis": np.array([1]), "wf": floats(8, 5),
    }  # fmt: skip
    nodes = [
        op("Gather", "table ids", "e"),
        op("Transpose", "e", "et", perm=[0, 2, 1]),
        op("MatMul", "e et", "s"),
        op("Sub", "one mask", "off"),
        op("Mul", "off most", "m0"),
        op("Unsqueeze", "m0 axis", "m"),
        op("Add", "s m", "sm"),
        op("Softmax", "sm", "p"),
        op("MatMul", "p e", "o"),
        op("MatMul", "o wf", "y"),
    ]
    inputs = {"ids": (TensorProto.INT64, [1, 12]), "mask": (TensorProto.FLOAT, [1, 12])}
    return net(nodes, weights, **inputs)


def exits(run: Callable[..., Ran], source: Path, made: Path, *more: object) -> tuple[int, int]:
    """The exit codes of verify and of doctor --against."""
    return (
        run("verify", source, made, *more).code,
        run("doctor", made, "--against", source, *more).code,
    )


def of_verification(found: Verification) -> str:
    return "diverges" if not found.agrees else "agrees" if found.proves else "weak"


def of_diagnosis(found: Diagnosis) -> str:
    return {True: "agrees", False: "diverges", None: "weak"}[found.healthy]


def of_proof(found: Proof, name: str) -> str:
    return next(
        of_verification(s.verification) for s in found.steps if s.candidate == name and s.verification is not None
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for number in range(6):
        picture = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


PICTURED: dict[str, tuple[Callable[[], Any], dict[str, str]]] = {
    "quantised": (quantised, {"o2c": "agrees", "o2c16": "agrees"}),
    "convolution": (convolution, {"o2c": "agrees", "o2c16": "agrees", "o2nn": "agrees"}),
    "attention": (attention, {"o2c": "agrees", "o2c16": "agrees"}),
    "beyond float16": (overflowing, {"o2c": "agrees", "o2c16": "diverges"}),
    "clipped without harm": (clipped, {"o2c": "weak", "o2c16": "weak"}),
    "NaN": (not_a_number, {"o2c": "weak", "o2c16": "weak"}),
    "dead": (dead, {"o2c": "weak", "o2c16": "weak", "o2nn": "weak"}),
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("kind", PICTURED)
def test_three_verbs_one_conclusion(kind: str, photos: Path, tmp_path: Path, coreproof: Callable[..., Ran]) -> None:
    make, expected = PICTURED[kind]
    source = tmp_path / "net.onnx"
    onnx.save(make(), source)
    proof = cp.prove(source, photos, tmp_path / "out", feeding=FED)
    for name, conclusion in expected.items():
        made = next((tmp_path / "out" / "models").glob(f"{name}.*"))
        fed = ("--photos", photos, "--size", SIDE, "--scale", "1/64", "--mean", "2")
        assert of_proof(proof, name) == conclusion, (name, proof.text)
        reference = cp.load(source)
        reference.feeding = FED  # type: ignore[attr-defined]
        found = cp.verify(reference, made)
        assert of_verification(found) == conclusion, (name, found.summary())
        diagnosis = cp.diagnose(made, source, feeding=FED)
        assert of_diagnosis(diagnosis) == conclusion, (name, diagnosis.before, [str(f) for f in diagnosis])
        code = {"agrees": 0, "weak": 1, "diverges": 1}[conclusion]
        assert exits(coreproof, source, made, *fed) == (code, code), name
        if conclusion == "weak":
            assert exits(coreproof, source, made, *fed, "--allow-weak") == (0, 0), name
    assert proof.proves == (set(expected.values()) == {"agrees"} and not any(w.fails for w in proof.weaknesses))


@pytest.mark.sweep(1)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_model_of_tokens_is_judged_alike_by_verify_and_doctor(
    precision: str, tmp_path: Path, coreproof: Callable[..., Ran]
) -> None:
    source, made = tmp_path / "net.onnx", tmp_path / "net.mlpackage"
    onnx.save(tokens(), source)
    cp.convert(source, "mlprogram", precision=precision).save(made)
    assert exits(coreproof, source, made) == (0, 0)
    assert of_diagnosis(cp.diagnose(made, source)) == of_verification(cp.verify(source, made)) == "agrees"


def test_a_wrong_weight_is_no_agreement_to_any_of_them(tmp_path: Path, coreproof: Callable[..., Ran]) -> None:
    source, made = tmp_path / "net.onnx", tmp_path / "net.mlpackage"
    onnx.save(quantised(), source)
    onnx.save(quantised(0.0503), tmp_path / "other.onnx")
    cp.convert(tmp_path / "other.onnx", "mlprogram", precision="fp32").save(made)
    assert exits(coreproof, source, made) == (1, 1)


def test_a_small_error_of_float32_is_one_to_both(tmp_path: Path, coreproof: Callable[..., Ran]) -> None:
    """Ten times what rounding explains is not nothing, though it is little."""
    source, other = tmp_path / "net.onnx", tmp_path / "other.onnx"
    nodes = [op("Flatten", "x", "f"), op("Mul", "f k", "y")]
    onnx.save(net(nodes, {"k": np.float32(1.5)}), source)
    onnx.save(net(nodes, {"k": np.float32(1.5 * (1 + 1e-5))}), other)
    cp.convert(other, "mlprogram", precision="fp32").save(tmp_path / "net.mlpackage")
    assert exits(coreproof, source, tmp_path / "net.mlpackage") == (1, 1)


def test_what_verify_alone_finds_is_not_called_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at 8 for 12, where only numbers ten times the usual size are: no draw by itself shows it to the doctor here."""

    def cut(at: float) -> Any:
        nodes = [op("Clip", "x low high", "c"), op("Sin", "c", "y")]
        return cp.load(net(nodes, {"low": np.float32(-at), "high": np.float32(at)}, x=[1, 64]))

    made = cp.convert(cut(8), "mlprogram", precision="fp32")
    monkeypatch.setattr("coreproof.doctor.case.all_drawn", lambda *_: iter(()))
    assert not cp.verify(cut(12), made)
    assert not cp.diagnose(made, cut(12)).healthy
    assert cp.diagnose(made, cut(8)).healthy
