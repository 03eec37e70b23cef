"""values: models without a name in common are paired by the numbers themselves, across layouts, and wrong pairs are dropped."""

from __future__ import annotations

import contextlib
import copy

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.verification.match_by_value import ALIKE, arrange, arrange_back, distance, sketch
from coreproof.verification.verify import verify
from tests.build import FLOAT, Net, as_half, graph_model, onnx_model, residual_net
from tests.verification.test_bisect import changed, renamed

with contextlib.suppress(ImportError):
    import torch  # noqa: F401 - coremltools offers its PyTorch front end only where torch was loaded before it


def test_values_are_found_without_names() -> None:
    found = verify(residual_net(), renamed(residual_net()))
    assert found
    inner = [r for r in found.rows if r.how != "output"]
    assert {r.how for r in inner} == {"value"}
    assert [r.reference for r in inner[:5]] == ["conv0", "norm0", "relu0", "sum0", "conv1"]
    assert found.unpaired == 0


def test_a_fault_is_named_without_names() -> None:
    """Up to the fault the values pair by themselves, behind it by structure: convolution and norm count as one there."""
    found = verify(residual_net(), renamed(residual_net(fault="swapped channel")))
    assert found.first_divergence is not None
    assert found.first_divergence.reference == "norm2"
    assert [r.reference for r in found.faults] == ["norm2"]
    assert [n.outputs[0] for n in found.suspects.nodes] == ["conv2", "norm2"]  # type: ignore[union-attr]
    assert [r.reference for r in found.rows if r.how == "value"][:3] == ["conv0", "norm0", "relu0"]


def test_a_guess_that_explains_nothing_is_dropped() -> None:
    """The casts of float16 mislead the structure: it takes a convolution for a norm, and one fault would count as several."""
    found = verify(residual_net(), as_half(renamed(residual_net(half=True, fault="swapped channel"))))
    assert [r.reference for r in found.dismissed] == ["norm3", "norm2"]
    assert [r.reference for r in found.faults] == ["relu2"]
    assert [n.outputs[0] for n in found.suspects.nodes] == ["conv2", "norm2", "relu2"]  # type: ignore[union-attr]


def test_several_faults_without_names() -> None:
    right = residual_net(blocks=8)
    found = verify(right, renamed(changed(right, "w1", "w4")))
    assert [r.reference for r in found.faults] == ["norm1", "norm4"]


def channels_last(fault: bool = False) -> object:
    """x, then everything with the channels last, then back; names that say nothing."""
    net = Net()
    x = ir.Value(name="x", type=ir.TensorType(FLOAT), shape=ir.Shape([1, 4, 5, 6]))
    h = net.add("Transpose", "a", x, perm=[0, 2, 3, 1])
    w = np.random.default_rng(2).normal(size=(4, 4)).astype(np.float32)
    h = net.add("MatMul", "b", h, net.constant("k", w.T.copy()))
    h = net.add("Relu" if not fault else "Sigmoid", "c", h)
    h = net.add("MatMul", "d", h, net.constant("l", w))
    return net.model(x, net.add("Transpose", "y", h, perm=[0, 3, 1, 2]))


def channels_first() -> object:
    net = Net()
    x = ir.Value(name="x", type=ir.TensorType(FLOAT), shape=ir.Shape([1, 4, 5, 6]))
    w = np.random.default_rng(2).normal(size=(4, 4)).astype(np.float32)
    h = net.add("Relu", "first_relu", net.add("Conv", "first", x, net.constant("k", w[:, :, None, None])))
    return net.model(x, net.add("Conv", "y", h, net.constant("l", w.T.copy()[:, :, None, None])))


def test_the_same_numbers_in_another_layout_are_paired() -> None:
    found = verify(channels_first(), channels_last())  # type: ignore[arg-type]
    assert found
    assert {(r.reference, r.candidate): r.how for r in found.rows} == {
        ("first", "b"): "value",
        ("first_relu", "c"): "value",
        ("y", "y"): "output",
    }
    wrong = verify(channels_first(), channels_last(fault=True))  # type: ignore[arg-type]
    assert wrong.suspects is not None
    assert "c" in {n.outputs[0] for n in wrong.suspects.layers}
    assert "b" not in {n.outputs[0] for n in wrong.suspects.layers}


def test_sketches_tell_layouts_and_values_apart() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1, 6, 6, 8)).astype(np.float32) * rng.uniform(0.5, 2, (1, 6, 1, 1)).astype(np.float32)
    known = sketch(a)
    assert known is not None
    for order in ((2, 0, 1), (1, 2, 0), (2, 1, 0), (1, 0, 2)):
        other = sketch(a[0].transpose(order))
        assert other is not None
        away, axes = distance(known, other)
        assert away < 0.01
        assert axes == order
        np.testing.assert_array_equal(arrange(a, axes), a[0].transpose(order))
    same = sketch(a.reshape(36, 8))
    assert same is not None
    assert distance(known, same) == (0.0, None)
    different = sketch(rng.permutation(a.reshape(-1)).reshape(a.shape))
    assert different is not None
    assert distance(known, different)[0] > 0.5
    alike = sketch(rng.normal(size=(6, 8, 6)).astype(np.float32)), sketch(rng.normal(size=(8, 6, 6)).astype(np.float32))
    assert distance(*alike)[0] > 0.5  # type: ignore[arg-type]
    for nothing in (np.ones((2, 3)), np.array(3.0), np.array(["a", "b"]), np.array([1.0, np.nan])):
        assert sketch(nothing) is None


@pytest.mark.filterwarnings("ignore")
def test_a_fault_in_what_another_converter_made_is_named() -> None:
    """coremltools' own conversion of a PyTorch module: not a name in common."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    import coremltools as converter

    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU()]
    layers += [torch.nn.Conv2d(16, 16, 3, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    layers += [torch.nn.Conv2d(16, 32, 3), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    net, x = torch.nn.Sequential(*layers, torch.nn.Linear(32, 10)).eval(), torch.randn(1, 3, 32, 32)
    right = cp.load((copy.deepcopy(net), (x,)))
    with torch.no_grad():
        net[3].weight[[0, 1]] = net[3].weight[[1, 0]]
    inputs = [converter.TensorType(shape=x.shape, name="inp")]
    target = converter.target.iOS16
    made = converter.convert(torch.jit.trace(net, x), inputs=inputs, minimum_deployment_target=target)
    found = verify(right, cp.load(made))
    assert [r.reference for r in found.faults] == ["getitem_3"]
    assert [n.operator for n in found.suspects.layers] == ["conv"]  # type: ignore[union-attr]
    assert {r.how for r in found.rows} == {"value", "structure", "output"}


@pytest.mark.parametrize("batch", [1, 3])
def test_a_layout_found_for_one_picture_holds_for_several(batch: int) -> None:
    array = np.arange(batch * 2 * 4 * 5).reshape(batch, 2, 4, 5)
    turned = arrange(array, (1, 2, 0))
    np.testing.assert_array_equal(turned.reshape(batch, 4, 5, 2), array.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(arrange_back(turned, (1, 2, 0), array.shape), array)


PLAIN = """<ir_version: 9, opset_import: ["": 18]>
net (float[1, 8, 32] x) => (float[1, 8, 16] y) {
    m = MatMul(x, w)  h = Add(m, o)  square = Mul(h, h)  mean = ReduceMean(square, axes)  sum = Add(mean, e)  root = Sqrt(sum)
    n = Div(h, root)  y = MatMul(n, v)
}"""
SCALED = """<ir_version: 9, opset_import: ["": 18]>
net (float[1, 8, 32] x) => (float[1, 8, 16] y) {
    z = MatMul(x, w)  a = Add(z, o)  b = Abs(a)  c = ReduceMax(b, axes)  d = Div(a, c)  f = Mul(d, d)  g = ReduceMean(f, axes)
    i = Add(g, e)
    j = Sqrt(i)  k = Mul(j, c)  l = Div(a, k)  y = MatMul(l, v)
}"""


@pytest.mark.parametrize("fault", [1.0, 1.05])
def test_a_norm_that_is_scaled_on_its_way_is_no_divergence(fault: float) -> None:
    """The squares of one are those of the other only by their place; what is made of them is the same, or wrong."""
    rng = np.random.default_rng(1)
    w, v = rng.normal(size=(32, 32)).astype(np.float32), rng.normal(size=(32, 16)).astype(np.float32)
    shared = {"w": w, "o": rng.normal(size=32).astype(np.float32), "axes": np.array([-1]), "e": np.float32(1e-6)}
    other = v.copy()
    other[3] *= fault
    found = verify(onnx_model(PLAIN, v=v, **shared), onnx_model(SCALED, v=other, **shared))
    assert found.agrees == (fault == 1)
    if fault == 1:
        assert {"g", "i"} <= {row.candidate for row in found.dismissed}
    else:
        assert [row.candidate for row in found.faults] == ["y"]


def test_numbers_that_are_all_but_one_number_fit_no_others() -> None:
    """Gates near a half: those of another layer lie within any share of the scale, and are other values."""
    near = 0.5 + np.random.default_rng(0).normal(size=(2, 24)).astype(np.float32) * np.float32(0.004)
    own, other, rounded = sketch(near[0]), sketch(near[1]), sketch(near[0].astype(np.float16))
    assert own is not None
    assert other is not None
    assert rounded is not None
    assert distance(own, other)[0] > ALIKE
    assert distance(own, rounded)[0] < ALIKE


def test_what_is_all_but_another_value_leaves_the_partner_to_that() -> None:
    """A product that differs by half a percent stands before the value itself, which is far nearer."""
    many, near = np.float32(100), np.float32(1.005)
    one = graph_model("net (float[4,64] x) => (float[4,64] y) { c = Mul(x, many)  y = Relu(c) }", many=many)
    steps = "h = Mul(x, near)  a = Mul(h, many)  s = Mul(x, many)  u = Relu(s)  v = Relu(a)"
    other = graph_model(f"net (float[4,64] x) => (float[4,64] u, float[4,64] v) {{ {steps} }}", near=near, many=many)
    x = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    pairs = {row.candidate: row.reference for row in verify(one, other, {"x": x}).rows}
    assert "a" not in pairs
    assert pairs["s"] == "c"
