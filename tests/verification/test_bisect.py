"""bisect: which rows go wrong by themselves, which only follow, and which layers stand between."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.verify import verify
from tests.build import as_half, graph_model, residual_net, weights

FAULTS = {
    "swapped channel": ["conv2"],
    "no bias": ["conv2", "norm2"],  # the net's running mean is made from the bias, and changes with it
    "wrong pad": ["conv2"],
    "epsilon": ["norm2"],
}


def changed(model: OnnxModel, *weights: str, by: float = 1.3) -> OnnxModel:
    """A copy in which these weights are larger."""
    copy = ir.from_proto(ir.to_proto(model.ir))
    for name in weights:
        value = copy.graph.initializers[name]
        array = value.const_value.numpy()
        value.const_value = ir.Tensor((array * by).astype(array.dtype), name=name)
    return type(model)(copy, name=model.name)


def renamed(model: OnnxModel) -> OnnxModel:
    """A copy in which no inner value bears its name."""
    copy = ir.from_proto(ir.to_proto(model.ir))
    ends = {v.name for v in (*copy.graph.inputs, *copy.graph.outputs)}
    for i, node in enumerate(copy.graph):
        node.name = f"n{i}"
        for j, value in enumerate(node.outputs):
            if value.name not in ends:
                value.name = f"v{i}_{j}"
    return type(model)(copy, name="renamed")


@pytest.mark.sweep(3)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_follows_a_fault_is_not_a_fault_itself(fault: str, half: bool) -> None:
    wrong = residual_net(half=half, fault=fault)
    found = verify(residual_net(), as_half(wrong) if half else wrong)
    assert len([r for r in found.rows if not r.agrees]) > 3
    assert [r.candidate for r in found.faults] == FAULTS[fault]
    assert found.faults[0] is found.first_divergence
    assert found.suspects is found.stretches[0]
    assert [n.outputs[0] for n in found.suspects.nodes] == FAULTS[fault][:1]
    assert not found.suspects.judgement.agrees


@pytest.mark.parametrize("memory", [1 << 28, 4 * 4 << 22], ids=["at once", "in batches"])
def test_several_independent_faults_are_all_found(memory: int) -> None:
    right = residual_net(blocks=8)
    found = verify(right, changed(right, "w1", "w4", "wy"), memory=memory)
    assert [r.candidate for r in found.faults] == ["conv1", "conv4", "y"]
    assert [s.row for s in found.stretches] == list(found.faults)


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp16"), ("neuralnetwork", "fp32")])
def test_faults_are_found_in_what_the_converter_fused(to: str, precision: str) -> None:
    """Convolution and batch normalisation are one layer there: the pair is the normalisation's, the suspects name both."""
    right = residual_net(blocks=6)
    wrong: Any = cp.convert(changed(right, "w1", "scale4"), to, precision=precision)
    found = verify(right, wrong)
    assert [r.reference for r in found.faults] == ["norm1", "norm4"]
    assert [n.outputs[0] for n in found.stretches[0].nodes] == ["conv1", "norm1"]
    assert len(found.stretches[0].layers) == 1
    json.dumps(found.to_json(), allow_nan=False)
    assert found.to_json()["faults"][0]["nodes"] == ["node_conv1", "node_norm1"]
    assert "node_conv1 (Conv), node_norm1 (BatchNormalization)" in found.summary()


def test_several_samples_are_judged_alone_with_their_worst() -> None:
    """A bias that only counts where the sum is above zero shows in the second sample alone."""
    right = residual_net()
    wrong = changed(right, "b1")
    rng = np.random.default_rng(3)
    samples = [{"x": np.zeros((1, 16, 12, 12), np.float32)}, {"x": rng.normal(size=(1, 16, 12, 12)).astype(np.float32)}]
    found = verify(right, wrong, samples)
    assert [r.candidate for r in found.faults] == ["conv1"]


def test_what_agrees_has_no_faults_and_no_suspects() -> None:
    found = verify(residual_net(), residual_net(half=True))
    assert found.faults == ()
    assert verify(residual_net(), residual_net()).suspects is None


def test_the_tolerance_that_would_have_passed_does_pass() -> None:
    right, wrong = residual_net(), residual_net(fault="epsilon")
    first = verify(right, wrong).first_divergence
    assert first is not None
    assert first.to_json()["passing"]["relative"] >= first.judgement.required_relative
    assert f"would have passed with a tolerance of {first.passing.relative:.2g}" in verify(right, wrong).summary()
    given = verify(right, wrong, tolerance=first.passing)
    assert next(r for r in given.rows if r.candidate == first.candidate).agrees
    tighter = replace(first.passing, relative=first.passing.relative * 0.999)
    assert not next(r for r in verify(right, wrong, tolerance=tighter).rows if r.candidate == first.candidate).agrees


def test_a_transpose_taken_apart_into_several_steps_accuses_none_of_them() -> None:
    """Attention over windows: six dimensions, which Core ML has not; each step is paired with the whole by structure alone."""
    from tests.build import onnx_model

    model = onnx_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[1,8,8,8] x) => (float[16,4,8] y)'
        " { a = Relu(x) r = Reshape(a, six) t = Transpose<perm=[0,2,4,3,5,1]>(r) w = Reshape(t, three) m = MatMul(w, k)"
        " s = Softmax<axis=-1>(m) y = Mul(s, w) }",
        six=np.array([1, 8, 4, 2, 4, 2]),
        three=np.array([16, 4, 8]),
        k=np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32),
    )
    found = verify(model, cp.convert(model, "mlprogram", precision="fp32"))
    assert found, found.summary()


def test_a_key_that_is_turned_another_way_is_no_second_fault() -> None:
    """Attention as PyTorch exports it: the conversion turns the key once where the source turns it twice, under no name of it."""
    model = graph_model(
        """net (float[16,1,32] x) => (float[1,4,16,8] y) {
        k = MatMul (x, wk)  k1 = Reshape (k, heads)  k2 = Transpose <perm = [1,0,2]> (k1)
        q = MatMul (x, wq)  q1 = Reshape (q, heads)  q2 = Transpose <perm = [1,0,2]> (q1)  q3 = Reshape (q2, four)
        t = Transpose <perm = [0,2,1]> (k2)  r = Reshape (t, turned)  ks = Mul (r, s)  qs = Mul (q3, s)
        m = MatMul (qs, ks)  p = Softmax <axis = -1> (m)  y = MatMul (p, q3) }""",
        wk=weights(32, 32),
        wq=weights(32, 32, seed=1),
        s=np.float32(0.6),
        heads=np.array([16, 4, 8]),
        four=np.array([1, 4, 16, 8]),
        turned=np.array([1, 4, 8, 16]),
    )
    # as the exporter does, which declares the shape of every value
    model = type(model)(ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model.ir))), name="attention")
    other = ir.from_proto(ir.to_proto(model.ir))
    other.graph.initializers["wk"].const_value = ir.Tensor(weights(32, 32, seed=7), name="wk")
    made = cp.convert(type(model)(other, name="attention"), "mlprogram", precision="fp16")
    assert any(name.endswith("_key_turned") for node in made.graph.nodes for name in node.outputs)
    found = verify(model, made)
    assert [row.reference for row in found.faults] == ["k"]


def test_a_mask_beyond_the_format_behind_a_fault_is_no_second_fault() -> None:
    """What a mask hides leaves float16's range and does no harm, which behind a fault only the layer alone can show."""
    model = graph_model(
        """net (float[16,32] x) => (float[16,32] y) {
        q = MatMul (x, wq)  k = MatMul (x, wk)  t = Transpose <perm = [1,0]> (k)  m = MatMul (q, t)  a = Add (m, mask)
        p = Softmax <axis = -1> (a)  y = MatMul (p, x) }""",
        wq=weights(32, 32),
        wk=weights(32, 32, seed=1),
        mask=np.triu(np.full((16, 16), np.finfo(np.float32).min), 1),
    )
    other = ir.from_proto(ir.to_proto(model.ir))
    other.graph.initializers["wk"].const_value = ir.Tensor(weights(32, 32, seed=7), name="wk")
    found = verify(model, cp.convert(type(model)(other, name="masked"), "mlprogram", precision="fp16"))
    assert [row.reference for row in found.faults] == ["k"]


def scaled_up_and_back(factor: float, names: str) -> Any:
    """A product, an activation that is none of its operand's size, a product, and a sum with what was before."""
    a, g, z = names
    text = f"""net (float[6, 32] x) => (float[6, 32] y) {{
        n = Tanh (x)  {a} = Gemm <transB = 1> (n, w, b)  {g} = Gelu ({a})  {z} = Gemm <transB = 1> ({g}, v)
        s = Add (n, {z})  y = Mul (s, half) }}"""
    w, v = weights(64, 32) * np.float32(factor), weights(32, 64, seed=1) / np.float32(factor)
    b = weights(64, seed=2) * np.float32(factor)
    return graph_model(text, 20, w=w, v=v, b=b, half=np.float32(0.5))


def test_a_pair_that_is_none_excuses_nothing_behind_it() -> None:
    """Guessed, with another scale than its partner's: from that, more error was predicted than any value may be off by."""
    reference, candidate = scaled_up_and_back(1, "agz"), scaled_up_and_back(2.0**26, "pqr")
    x = {"x": np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)}
    right, made = cp.session(reference).run(x)["y"], cp.session(candidate).run(x)["y"]
    off = np.sqrt(np.mean((made - right) ** 2) / np.mean(right**2))
    assert off > 0.01
    found = verify(reference, candidate)
    assert not found
    assert not found.outputs[0].agrees
    assert max(row.tolerance.typical or 0.0 for row in found.rows) < 1e-3
    # scaled by little it is the same network, and nothing is dismissed
    assert verify(reference, scaled_up_and_back(1, "pqr"))
