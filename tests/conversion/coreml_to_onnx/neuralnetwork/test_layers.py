"""Layers against PyTorch, numpy, and the worked examples in NeuralNetwork.proto."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.build import layer, network
from tests.conversion.coreml_to_onnx.lowered import run, run_layer

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def t(array: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array))


def close(found: Any, expected: Any) -> None:
    expected = expected.numpy() if hasattr(expected, "numpy") else expected
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def edges(top: int, bottom: int, left: int, right: int) -> dict[str, Any]:
    return {
        "borderAmounts": [
            {"startEdgeSize": top, "endEdgeSize": bottom},
            {"startEdgeSize": left, "endEdgeSize": right},
        ]
    }


# convolution


@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, 1, 1), (2, 2, 1), (4, 1, 2)])
def test_convolution(groups: int, stride: int, dilation: int) -> None:
    x, w, b = normal(2, 4, 9, 8), normal(8, 4 // groups, 3, 2), normal(8)
    found = run_layer(
        "convolution", x, outputChannels=8, kernelChannels=4 // groups, nGroups=groups, kernelSize=[3, 2],
        stride=[stride, stride], dilationFactor=[dilation, dilation], hasBias=True, weights=w, bias=b,
        valid={"paddingAmounts": edges(1, 2, 0, 1)},
    )  # fmt: skip
    padded = F.pad(t(x), (0, 1, 1, 2))
    close(found, F.conv2d(padded, t(w), t(b), stride=stride, dilation=dilation, groups=groups))


@pytest.mark.parametrize(("mode", "pads"), [("BOTTOM_RIGHT_HEAVY", (0, 1, 0, 1)), ("TOP_LEFT_HEAVY", (1, 0, 1, 0))])
def test_same_padding_and_its_heavy_side(mode: str, pads: tuple[int, ...]) -> None:
    x, w = normal(1, 3, 6, 6), normal(5, 3, 3, 3)
    found = run_layer(
        "convolution", x, outputChannels=5, kernelChannels=3, stride=[2, 2], weights=w, same={"asymmetryMode": mode}
    )  # fmt: skip
    close(found, F.conv2d(F.pad(t(x), pads), t(w), stride=2))


def test_convolution_sees_leading_dimensions_as_one_batch() -> None:
    x, w = normal(2, 3, 4, 5, 5), normal(6, 4, 3, 3)
    found = run_layer("convolution", x, outputChannels=6, kernelChannels=4, weights=w, valid={})
    close(found, F.conv2d(t(x.reshape(6, 4, 5, 5)), t(w)).reshape(2, 3, 6, 3, 3))


@pytest.mark.parametrize("output_shape", [[], [11, 12]])
def test_deconvolution(output_shape: list[int]) -> None:
    x, w = normal(1, 4, 5, 6), normal(4, 3, 3, 3)
    found = run_layer(
        "convolution", x, isDeconvolution=True, outputChannels=6, kernelChannels=4, nGroups=2, stride=[2, 2],
        weights=w, valid={}, outputShape=output_shape,
    )  # fmt: skip
    full = F.conv_transpose2d(t(x), t(w), stride=2, groups=2)
    close(found, full if not output_shape else full[:, :, :11, :12])


# pooling


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_pooling_that_includes_the_last_pixel_is_ceil_mode(size: int, exclude: bool) -> None:
    x = normal(1, 2, size, size)
    fields: dict[str, Any] = {"kernelSize": [3, 3], "stride": [2, 2], "includeLastPixel": {"paddingAmounts": [1, 1]}}
    close(run_layer("pooling", x, **fields), F.max_pool2d(t(x), 3, 2, 1, ceil_mode=True))
    found = run_layer("pooling", x, type="AVERAGE", avgPoolExcludePadding=exclude, **fields)
    close(found, F.avg_pool2d(t(x), 3, 2, 1, ceil_mode=True, count_include_pad=not exclude))


def test_pooling_l2_and_global() -> None:
    x = normal(2, 3, 6, 6)
    found = run_layer("pooling", x, type="L2", kernelSize=[2, 2], stride=[2, 2], valid={})
    close(found, F.lp_pool2d(t(x), 2, 2))
    close(run_layer("pooling", x, type="AVERAGE", globalPooling=True), x.mean((2, 3), keepdims=True))
    close(run_layer("pooling", x, globalPooling=True), x.max((2, 3), keepdims=True))


# activations, elementwise, normalisation


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("leakyReLU", {"alpha": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
        ("thresholdedReLU", {"alpha": 0.5}, lambda x: torch.where(x >= 0.5, x, torch.zeros(()))),
        ("scaledTanh", {"alpha": 1.7, "beta": 0.6}, lambda x: 1.7 * torch.tanh(0.6 * x)),
        ("sigmoidHard", {"alpha": 0.3, "beta": 0.4}, lambda x: (0.3 * x + 0.4).clamp(0, 1)),
        ("ELU", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
        ("softsign", {}, F.softsign),
        ("softplus", {}, F.softplus),
        ("linear", {"alpha": 2.0, "beta": -1.0}, lambda x: 2 * x - 1),
        ("linear", {"beta": 3.0}, lambda x: 0 * x + 3),
    ],
)
def test_activations(kind: str, fields: dict[str, float], expected: Any) -> None:
    x = np.concatenate([normal(3, 4, 5).ravel(), [0.5, 0.0]]).astype(np.float32)
    close(run_layer("activation", x, **{kind: fields}), expected(t(x)))


def test_channelwise_activations() -> None:
    x, alpha, beta = normal(2, 3, 4, 4), np.abs(normal(3)), normal(3)
    close(run_layer("activation", x, PReLU={"alpha": alpha}), F.prelu(t(x), t(alpha)))
    expected = alpha[:, None, None] * np.log1p(np.exp(beta[:, None, None] * x))
    close(run_layer("activation", x, parametricSoftplus={"alpha": alpha, "beta": beta}), expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("SQRT", lambda v: np.sqrt(v)), ("RSQRT", lambda v: 1 / np.sqrt(v + 0.1)), ("INVERSE", lambda v: 1 / (v + 0.1)),
        ("POWER", lambda v: v**1.5), ("EXP", np.exp), ("LOG", lambda v: np.log(v + 0.1)), ("ABS", np.abs),
        ("THRESHOLD", lambda v: np.maximum(v, 1.5)),
    ],
)  # fmt: skip
def test_unary_scales_and_shifts_first(kind: str, expected: Any) -> None:
    x = np.abs(normal(3, 2, 2))
    close(run_layer("unary", x, type=kind, alpha=1.5, epsilon=0.1, scale=2.0, shift=0.25), expected(2 * x + 0.25))


def test_batchnorm_and_instance_norm() -> None:
    x, g, b, m, v = normal(2, 3, 4, 5), normal(3), normal(3), normal(3), np.abs(normal(3))
    close(
        run_layer("batchnorm", x, channels=3, gamma=g, beta=b, mean=m, variance=v),
        F.batch_norm(t(x), t(m), t(v), t(g), t(b)),
    )
    found = run_layer(
        "batchnorm", x, channels=3, gamma=g, beta=b, computeMeanVar=True, instanceNormalization=True, epsilon=1e-3
    )
    close(found, F.instance_norm(t(x), weight=t(g), bias=t(b), eps=1e-3))
    found = run_layer("batchnorm", x, channels=3, gamma=g, beta=b, computeMeanVar=True)
    close(found, F.batch_norm(t(x), None, None, t(g), t(b), training=True))


def test_mvn_l2normalize_and_lrn() -> None:
    x = normal(2, 6, 4, 5)
    close(run_layer("mvn", x, acrossChannels=True, normalizeVariance=True), F.layer_norm(t(x), (6, 4, 5), eps=1e-6))
    close(run_layer("mvn", x), x - x.mean((2, 3), keepdims=True))
    close(run_layer("l2normalize", x), x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + 1e-6))
    for size in (4, 5):
        found = run_layer("lrn", x, alpha=0.3, beta=0.75, localSize=size, k=2.0)
        close(found, F.local_response_norm(t(x), size, 0.3, 0.75, 2.0))


def test_softmax_is_over_channels() -> None:
    x = normal(2, 3, 4, 5)
    close(run_layer("softmax", x), F.softmax(t(x), 1))


def test_scale_and_bias_shapes() -> None:
    x, c, hw = normal(3, 4, 5), normal(3), normal(1, 4, 5)
    close(
        run_layer("scale", x, exact=False, shapeScale=[3], scale=c, hasBias=True, shapeBias=[1, 4, 5], bias=hw)[0, 0],
        x * c[:, None, None] + hw,
    )
    close(run_layer("bias", x, exact=False, shape=[1], bias=np.ones(1))[0, 0], x + 1)


# matrices


@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 5, 24), (5, 2, 3, 4), (2, 5, 2, 3, 4)])
def test_inner_product_by_rank(shape: tuple[int, ...]) -> None:
    x, w, b = normal(*shape), normal(7, 24), normal(7)
    found = run_layer("innerProduct", x, inputChannels=24, outputChannels=7, hasBias=True, weights=w, bias=b)
    leading = shape[:-3] if len(shape) > 3 else shape[:-1]
    expected = x.reshape(*leading, 24) @ w.T + b
    close(found, expected.reshape(*leading, 7, 1, 1) if len(shape) > 3 else expected)


def test_batched_matmul_stores_its_weights_by_column() -> None:
    x, w, b = normal(2, 3, 4), normal(4, 5), normal(5)
    found = run_layer(
        "batchedMatmul",
        x,
        weightMatrixFirstDimension=4,
        weightMatrixSecondDimension=5,
        weights=w.T,
        hasBias=True,
        bias=b,
    )
    close(found, x @ w + b)
    a, c = normal(2, 4, 3), normal(5, 4)
    close(run_layer("batchedMatmul", a, c, transposeA=True, transposeB=True), a.transpose(0, 2, 1) @ c.T)


# reshaping, in rank 5 networks


def test_reshape_and_flatten_in_both_orders() -> None:
    x = normal(2, 3, 4)
    assert run_layer("reshape", x, exact=False, targetShape=[4, 2, 3]).shape == (1, 1, 4, 2, 3)
    close(run_layer("reshape", x, exact=False, targetShape=[2, 3, -1, 1]), x.reshape(2, 1, 3, 4, 1))
    close(run_layer("reshape", x, exact=False, targetShape=[6, 2, 2])[0, 0], x.reshape(6, 2, 2))
    last = x.transpose(1, 2, 0).reshape(2, 2, 6).transpose(2, 0, 1)
    close(run_layer("reshape", x, exact=False, targetShape=[6, 2, 2], mode="CHANNEL_LAST")[0, 0], last)
    close(run_layer("flatten", x, exact=False)[0, 0], x.reshape(24, 1, 1))
    close(run_layer("flatten", x, exact=False, mode="CHANNEL_LAST")[0, 0], x.transpose(1, 2, 0).reshape(24, 1, 1))


@pytest.mark.parametrize(("axis", "shape"), [([0, 3, 1, 2], (1, 1, 4, 2, 3)), ([3, 1, 2, 0], (4, 1, 2, 3, 1))])
def test_permute_counts_seq_c_h_w(axis: list[int], shape: tuple[int, ...]) -> None:
    x = normal(2, 3, 4)
    found = run_layer("permute", x, exact=False, axis=axis)
    assert found.shape == shape
    close(found.reshape(-1), x[None].transpose(axis).reshape(-1))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("DEPTH_TO_SPACE", [[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]]),
        ("PIXEL_SHUFFLE", [[[1, 3, 2, 4], [5, 7, 6, 8]], [[9, 11, 10, 12], [13, 15, 14, 16]]]),
    ],
)
def test_reorganize_data_as_the_format_shows_it(mode: str, expected: Any) -> None:
    x = np.arange(1, 17, dtype=np.float32).reshape(8, 1, 2)
    found = run_layer("reorganizeData", x, mode=mode, blockSize=2)
    close(found, np.asarray(expected, np.float32))
    if mode == "DEPTH_TO_SPACE":
        close(run_layer("reorganizeData", found, mode="SPACE_TO_DEPTH", blockSize=2), x)


def test_padding_as_the_format_shows_it() -> None:
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4)
    for mode, kind in (("reflect", "reflection"), ("edge", "replication")):
        found = run_layer("padding", x, exact=False, paddingAmounts=edges(2, 0, 2, 0), **{kind: {}})
        close(found[0, 0], np.pad(x, ((0, 0), (2, 0), (2, 0)), mode=mode))  # type: ignore[call-overload]
    close(run_layer("crop", x, cropAmounts=edges(1, 0, 1, 2)), x[:, 1:, 1:2])


@pytest.mark.parametrize(
    ("axis", "expected"),
    [("CHANNEL_AXIS", lambda x: x[1:3]), ("HEIGHT_AXIS", lambda x: x[:, 1:3]), ("WIDTH_AXIS", lambda x: x[:, :, 1:3])],
)
def test_slice_axes(axis: str, expected: Any) -> None:
    x = normal(4, 4, 4)
    close(run_layer("slice", x, startIndex=1, endIndex=-1, stride=1, axis=axis), expected(x))


# sampling


@pytest.mark.parametrize(("mode", "align"), [("ALIGN_CORNERS_TRUE", True), ("ALIGN_CORNERS_FALSE", False)])
def test_bilinear_upsample_grids_of_pytorch(mode: str, align: bool) -> None:
    x = normal(1, 2, 4, 5)
    found = run_layer("upsample", x, scalingFactor=[2, 3], mode="BILINEAR", linearUpsampleMode=mode)
    close(found, F.interpolate(t(x), scale_factor=(2.0, 3.0), mode="bilinear", align_corners=align))


def sampled(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values at grid points, written out."""

    def weights(points: np.ndarray, length: int) -> np.ndarray:
        return np.maximum(0, 1 - np.abs(points[:, None] - np.arange(length)))

    return weights(rows, x.shape[-2]) @ x @ weights(columns, x.shape[-1]).T


def test_resize_bilinear_grids_as_the_format_states_them() -> None:
    x = normal(1, 2, 4, 6)
    grids = {
        "STRICT_ALIGN_ENDPOINTS_MODE": lambda length, n: np.linspace(0, length - 1, n),
        "ALIGN_ENDPOINTS_MODE": lambda length, n: np.linspace(0, length - 1, n),
        "UPSAMPLE_MODE": lambda length, n: np.linspace(0, length - length / n, n),
        "ROI_ALIGN_MODE": lambda length, n: (np.arange(n) + 0.5) * max(1, length - 1) / n,
    }
    for name, grid in grids.items():
        found = run_layer("resizeBilinear", x, targetSize=[7, 5], mode={"samplingMethod": name})
        expected = sampled(x, np.minimum(3, grid(4, 7)), np.minimum(5, grid(6, 5)))
        close(found, expected.astype(np.float32))


def test_crop_resize_of_batch_entries() -> None:
    x = normal(2, 3, 6, 8)
    boxes = np.asarray([[1, 0.2, 0.25, 0.8, 0.75], [0, 0.0, 0.0, 1.0, 1.0]], np.float32)
    found = run_layer(
        "cropResize", x[None], boxes.reshape(2, 1, 5, 1, 1), targetSize=[4, 3], normalizedCoordinates=True,
        mode={"samplingMethod": "ALIGN_ENDPOINTS_MODE"}, boxIndicesMode={"boxMode": "CORNERS_HEIGHT_FIRST"},
        spatialScale=1.0,
    )  # fmt: skip
    expected = [
        sampled(x[int(b)], np.linspace(y1 * 5, y2 * 5, 4), np.linspace(x1 * 7, x2 * 7, 3))
        for b, y1, x1, y2, x2 in boxes
    ]
    close(found, np.stack(expected)[:, None].astype(np.float32))


# recurrent layers


def lstm_weights(module: Any, suffix: str) -> dict[str, Any]:
    """PyTorch's gates i, f, g, o as Core ML names them."""
    found: dict[str, Any] = {}
    bias = module.get_parameter(f"bias_ih_l0{suffix}") + module.get_parameter(f"bias_hh_l0{suffix}")
    for what, tensor in (
        ("WeightMatrix", module.get_parameter(f"weight_ih_l0{suffix}")),
        ("RecursionMatrix", module.get_parameter(f"weight_hh_l0{suffix}")),
        ("BiasVector", bias),
    ):
        for gate, part in zip(
            ("inputGate", "forgetGate", "blockInput", "outputGate"), tensor.detach().chunk(4), strict=True
        ):
            found[gate + what] = part.numpy()
    return found


STANDARD = [{"sigmoid": {}}, {"tanh": {}}, {"tanh": {}}]


@pytest.mark.parametrize("clip", [500.0, 3.0])
def test_lstm_of_pytorch_by_either_way(clip: float) -> None:
    torch.manual_seed(0)
    module = torch.nn.LSTM(4, 3)
    x, h, c = normal(6, 2, 4), normal(1, 2, 3), normal(1, 2, 3)
    with torch.no_grad():
        expected, (last_h, last_c) = module(t(x), (t(h), t(c)))
    found = run_layer(
        "uniDirectionalLSTM", x[..., None, None], h[..., None, None], c[..., None, None], outputs=3,
        inputVectorSize=4, outputVectorSize=3, activations=STANDARD,
        params={"sequenceOutput": True, "hasBiasVectors": True, "cellClipThreshold": clip},
        weightParams=lstm_weights(module, ""),
    )  # fmt: skip
    for value, wanted in zip(found, (expected, last_h, last_c), strict=True):
        close(value[..., 0, 0], wanted)


def test_bidirectional_lstm_of_pytorch() -> None:
    torch.manual_seed(1)
    module = torch.nn.LSTM(4, 3, bidirectional=True)
    x = normal(6, 2, 4)
    with torch.no_grad():
        expected, (last_h, _) = module(t(x))
    fields: dict[str, Any] = {
        "inputVectorSize": 4,
        "outputVectorSize": 3,
        "activationsForwardLSTM": STANDARD,
        "activationsBackwardLSTM": STANDARD,
        "weightParams": [lstm_weights(module, ""), lstm_weights(module, "_reverse")],
    }
    whole = {"sequenceOutput": True, "hasBiasVectors": True, "cellClipThreshold": 500.0}
    close(run_layer("biDirectionalLSTM", x[..., None, None], params=whole, **fields)[..., 0, 0], expected)
    ends = run_layer("biDirectionalLSTM", x[..., None, None], params={**whole, "sequenceOutput": False}, **fields)
    close(ends[..., 0, 0], torch.cat([last_h[0], last_h[1]], 1)[None])


# control flow


def test_a_while_loop_with_a_break() -> None:
    """i counts up while it is below 10, and the loop is left when it reaches 4."""
    model = network(
        [
            layer("copy", "x", "i"),
            layer("loop", "", "", conditionVar="below"),
        ],
        {"x": (1,)},
        {"i": None},
        exact=True,
    )
    loop = model.network.layers[1].loop
    loop.conditionNetwork.layers.append(layer("lessThan", "i", "below", alpha=10.0))
    loop.bodyNetwork.layers.extend(
        [
            layer("add", "i", "next", alpha=1.0),
            layer("copy", "next", "i"),
            layer("equal", "i", "done", alpha=4.0),
            layer("branch", "done", ""),
        ]
    )
    loop.bodyNetwork.layers[3].branch.ifBranch.layers.append(layer("loopBreak", "", ""))
    assert run(model, x=np.asarray([0], np.float32))["i"].tolist() == [4]
    assert run(model, x=np.asarray([5], np.float32))["i"].tolist() == [10]
    assert run(model, x=np.asarray([12], np.float32))["i"].tolist() == [12]


def test_a_branch_writes_for_the_layers_after_it() -> None:
    model = network(
        [layer("greaterThan", "x", "big", alpha=1.0), layer("branch", "big", ""), layer("add", "r", "y", alpha=100.0)],
        {"x": (1,)},
        {"y": None},
        exact=True,
    )
    model.network.layers[1].branch.ifBranch.layers.append(layer("multiply", "x", "r", alpha=2.0))
    model.network.layers[1].branch.elseBranch.layers.append(layer("multiply", "x", "r", alpha=-1.0))
    assert run(model, x=np.asarray([3], np.float32))["y"].tolist() == [106]
    assert run(model, x=np.asarray([1], np.float32))["y"].tolist() == [99]


def test_a_run_time_shape_reshapes() -> None:
    x = normal(2, 6)
    found = run_layer("reshapeDynamic", x, np.asarray([3, -1], np.float32))
    close(found, x.reshape(3, 4))


def test_a_continue_ends_the_iteration() -> None:
    model = network(
        [layer("copy", "x", "i"), layer("loop", "", "", maxLoopIterations=3)], {"x": (1,)}, {"i": None}, exact=True
    )
    body = model.network.layers[1].loop.bodyNetwork.layers
    body.extend([layer("add", "i", "next", alpha=2.0), layer("copy", "next", "i"), layer("branch", "i", "")])
    body[2].branch.ifBranch.layers.append(layer("loopContinue", "", ""))
    assert run(model, x=np.asarray([1], np.float32))["i"].tolist() == [7]


# layers that Apple's suite does not reach


def test_average_dot_and_sequence_repeat() -> None:
    a, b = normal(1, 3, 1, 1), normal(1, 3, 1, 1)
    close(run_layer("average", a, b), (a + b) / 2)
    close(run_layer("dot", a, b), (a * b).sum(1, keepdims=True))
    cosine = (a * b).sum(1, keepdims=True) / (np.linalg.norm(a) * np.linalg.norm(b))
    close(run_layer("dot", a, b, cosineSimilarity=True), cosine)
    x = normal(2, 1, 3, 1, 1)
    close(run_layer("sequenceRepeat", x, nRepetitions=3), np.concatenate([x] * 3))


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, iou: float, least: float, most: int, per_class: bool
) -> list[int]:
    """The algorithm as NeuralNetwork.proto tells it."""
    best, classes = scores.max(1), scores.argmax(1)
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    kept: list[int] = []
    for i in np.argsort(-best, kind="stable"):
        if best[i] < least:
            continue
        for j in kept:
            side = np.maximum(0, np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]))
            both = side.prod()
            union = boxes[i, 2:].prod() + boxes[j, 2:].prod() - both
            if (not per_class or classes[i] == classes[j]) and both / union > iou:
                break
        else:
            kept.append(int(i))
    return (kept or [int(best.argmax())])[:most]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("least", "most"), [(0.5, 30), (0.8, 4), (2.0, 5)])
def test_non_maximum_suppression(per_class: bool, least: float, most: int) -> None:
    rng = np.random.default_rng(3)
    boxes = (rng.random((2, 40, 4)) * [1, 1, 0.5, 0.5] + [0, 0, 0.1, 0.1]).astype(np.float32)
    scores = rng.random((2, 40, 3)).astype(np.float32)
    found = run_layer(
        "NonMaximumSuppression", boxes, scores, outputs=4,
        iouThreshold=0.3, scoreThreshold=least, maxBoxes=most, perClassSuppression=per_class,
    )  # fmt: skip
    for entry in range(2):
        kept = suppressed(boxes[entry], scores[entry], 0.3, least, most, per_class)
        padding = most - len(kept)
        assert found[2][entry].tolist() == kept + [-1] * padding
        assert found[3][entry] == len(kept)
        close(found[0][entry], np.pad(boxes[entry][kept], ((0, padding), (0, 0))))
        close(found[1][entry], np.pad(scores[entry][kept], ((0, padding), (0, 0))))
