"""Normalisations against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from torch.nn import functional as F

from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import graph_model, node_model
from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node, convert_node
from tests.drawn import t

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 4, 5)).astype(np.float32)
SCALE, SHIFT, MEAN = (RNG.normal(size=6).astype(np.float32) for _ in range(3))
VARIANCE = RNG.uniform(0.5, 2, 6).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (2, 6, 4, 5)])
def test_batch_normalization_at_every_rank(shape: tuple[int, ...]) -> None:
    x = RNG.normal(size=shape).astype(np.float32)
    expected = F.batch_norm(t(x), t(MEAN), t(VARIANCE), t(SCALE), t(SHIFT), eps=1e-3).numpy()
    stored = {"scale": SCALE, "shift": SHIFT, "mean": MEAN, "variance": VARIANCE}
    check_node("BatchNormalization", {"x": x}, expected, stored, epsilon=1e-3, atol=2e-5)


@pytest.mark.parametrize("opset", [7, 9, 13, 14, 15])
def test_batch_normalization_that_trains(opset: int) -> None:
    """Before opset 14 its outputs say that it trains. The standard has the variance of the population throughout."""
    stored = {"scale": SCALE, "shift": SHIFT, "mean": MEAN, "variance": VARIANCE}
    mean, variance = X.mean((0, 2, 3)), X.var((0, 2, 3))
    expected = [
        F.batch_norm(t(X), None, None, t(SCALE), t(SHIFT), training=True, eps=1e-3).numpy(),
        0.8 * MEAN + 0.2 * mean,
        0.8 * VARIANCE + 0.2 * variance,
        *([mean] if opset < 14 else []),
    ]
    trains = {"training_mode": 1} if opset >= 14 else {}
    described = {"opset": opset, "epsilon": 1e-3, "momentum": 0.8, **trains}
    check_node("BatchNormalization", {"x": X}, expected, stored, atol=2e-5, **described)


@pytest.mark.parametrize(("opset", "rest"), [(9, " m, v, sm, sv"), (15, " m, v"), (15, "")])
def test_what_trains_is_not_merged_into_the_convolution_before_it(opset: int, rest: str) -> None:
    """Also where nobody reads its statistics."""
    outputs = f"y,{rest}" if rest else "y"
    mode = ", training_mode = 1" if opset >= 14 else ""
    model = graph_model(
        f"net (float[2,3,4,5] x) => (float[2,6,4,5] y) {{ c = Conv(x, w)\n"
        f"{outputs} = BatchNormalization<epsilon = 0.001{mode}>(c, scale, shift, mean, variance) }}",
        opset,
        w=(weight := RNG.normal(size=(6, 3, 1, 1)).astype(np.float32)),
        scale=SCALE,
        shift=SHIFT,
        mean=MEAN,
        variance=VARIANCE,
    )
    x = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    convolved = F.conv2d(t(x), t(weight))
    expected = F.batch_norm(convolved, None, None, t(SCALE), t(SHIFT), training=True, eps=1e-3).numpy()
    for to, target in TARGETS:
        with session(convert_node(model, to, target), "onnxruntime") as running:
            np.testing.assert_allclose(running.run({"x": x})["y"], expected, rtol=1e-5, atol=2e-5)


def test_the_old_form_of_training_is_refused_where_it_contradicts_itself_or_the_engine() -> None:
    stored = {"scale": SCALE, "shift": SHIFT, "mean": MEAN, "variance": VARIANCE}
    contradicts = node_model("BatchNormalization", {"x": X}, stored, opset=6, is_test=0)
    with pytest.raises(ConversionError, match=r"is_test = 0.*one output"):
        convert_node(contradicts, "mlprogram", None)
    saved = node_model("BatchNormalization", {"x": X}, stored, opset=9, outputs=[np.float32] * 5)
    with pytest.raises(ConversionError, match="statistics that it saved for training"):
        convert_node(saved, "mlprogram", None)


def test_instance_normalization() -> None:
    expected = F.instance_norm(t(X), weight=t(SCALE), bias=t(SHIFT), eps=1e-3).numpy()
    check_node("InstanceNormalization", {"x": X}, expected, {"scale": SCALE, "shift": SHIFT}, epsilon=1e-3, atol=2e-5)


@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize("shifted", [False, True])
def test_layer_normalization_over_the_last_axes(axis: int, shifted: bool) -> None:
    over = X.shape[axis:]
    scale, shift = (RNG.normal(size=over).astype(np.float32) for _ in range(2))
    expected = F.layer_norm(t(X), over, t(scale), t(shift) if shifted else None, eps=1e-3).numpy()
    stored = {"scale": scale, "shift": shift} if shifted else {"scale": scale}
    check_node("LayerNormalization", {"x": X}, expected, stored, axis=axis, epsilon=1e-3, atol=2e-5)


def test_group_normalization_takes_a_scale_for_each_channel_since_opset_21() -> None:
    expected = F.group_norm(t(X), 3, t(SCALE), t(SHIFT), eps=1e-3).numpy()
    stored = {"scale": SCALE, "shift": SHIFT}
    check_node("GroupNormalization", {"x": X}, expected, stored, opset=21, num_groups=3, epsilon=1e-3, atol=2e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_local_response_normalization(size: int) -> None:
    expected = F.local_response_norm(t(X), size, 0.3, 0.75, 2.0).numpy()
    check_node("LRN", {"x": X}, expected, size=size, alpha=0.3, beta=0.75, bias=2.0, atol=2e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(p: int) -> None:
    check_node("LpNormalization", {"x": X}, F.normalize(t(X), p=float(p), dim=1).numpy(), axis=1, p=p, atol=2e-5)


def test_mean_variance_normalization() -> None:
    axes = (0, 2, 3)
    expected = (X - X.mean(axes, keepdims=True)) / X.std(axes, keepdims=True)
    check_node("MeanVarianceNormalization", {"x": X}, expected, atol=2e-5)


PROGRAMS = [("mlprogram", "iOS15"), ("mlprogram", "iOS18")]


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (2, 6, 4, 5), (1, 6, 2, 3, 2)])
def test_statistics_and_scales_that_are_fed(shape: tuple[int, ...]) -> None:
    x = RNG.normal(size=shape).astype(np.float32)
    fed = {"x": x, "scale": SCALE, "bias": SHIFT, "mean": MEAN, "variance": VARIANCE}
    want = F.batch_norm(t(x), t(MEAN), t(VARIANCE), t(SCALE), t(SHIFT)).numpy()
    check_node("BatchNormalization", fed, want, targets=PROGRAMS)
    if len(shape) > 2:
        few = {k: fed[k] for k in ("x", "scale", "bias")}
        want = F.instance_norm(t(x), weight=t(SCALE), bias=t(SHIFT)).numpy()
        check_node("InstanceNormalization", few, want, targets=PROGRAMS, rtol=1e-4, atol=1e-4)
        want = F.group_norm(t(x), 3, t(SCALE), t(SHIFT)).numpy()
        check_node("GroupNormalization", few, want, opset=21, num_groups=3, targets=PROGRAMS, rtol=1e-4, atol=1e-4)
        by_group = {"x": x, "scale": SCALE[:3], "bias": SHIFT[:3]}
        want = F.group_norm(t(x), 3, t(np.repeat(SCALE[:3], 2)), t(np.repeat(SHIFT[:3], 2))).numpy()
        check_node("GroupNormalization", by_group, want, opset=18, num_groups=3, targets=PROGRAMS, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("momentum", [0.9, 0.25])
def test_batch_normalization_in_training_takes_the_statistics_of_what_is_fed(momentum: float) -> None:
    mean, variance = t(MEAN.copy()), t(VARIANCE.copy())
    want = F.batch_norm(t(X), mean, variance, t(SCALE), t(SHIFT), training=True, momentum=1 - momentum).numpy()
    own = X.var(axis=(0, 2, 3))  # PyTorch's running variance is that of a sample, the standard's that of the whole
    running = MEAN * momentum + X.mean(axis=(0, 2, 3)) * (1 - momentum), VARIANCE * momentum + own * (1 - momentum)
    np.testing.assert_allclose(mean.numpy(), running[0], rtol=1e-4)
    weights = {"scale": SCALE, "bias": SHIFT, "mean": MEAN, "variance": VARIANCE}
    check_node("BatchNormalization", {"x": X}, [want, *running], weights, opset=15, training_mode=1, momentum=momentum)


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_root_of_mean_squares(axis: int) -> None:
    scale = RNG.normal(size=X.shape[axis:] if axis > 0 else X.shape[-1:]).astype(np.float32)
    expected = F.rms_norm(t(X), scale.shape, t(scale), 1e-3).numpy()
    check_node("RMSNormalization", {"x": X}, expected, {"s": scale}, opset=23, axis=axis, epsilon=1e-3)
