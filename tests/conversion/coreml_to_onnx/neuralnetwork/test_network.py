"""Inputs, preprocessing, outputs, classifiers, names and refusals of whole networks."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.conversion.coreml_to_onnx.neuralnetwork.network import lower_network
from coreproof.errors import ConversionError
from coreproof.model.coreml.model import CoreMLModel
from tests.build import layer, network
from tests.conversion.coreml_to_onnx.lowered import run, run_lowered

RELU = {"ReLU": {}}
IDENTITY = {"linear": {"alpha": 1.0}}


@pytest.mark.parametrize(
    ("shape", "blob"), [((4,), (1, 1, 4, 1, 1)), ((2, 3, 5), (1, 1, 2, 3, 5)), ((2, 1, 3, 1, 1), (2, 1, 3, 1, 1))]
)
def test_rank_5_networks_see_arrays_as_rank_5(shape: tuple[int, ...], blob: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = network([layer("activation", "x", "y", **RELU)], {"x": shape}, {"y": None})
    y = run(model, x=x)["y"]
    assert y.shape == blob
    np.testing.assert_array_equal(y.ravel(), np.maximum(x, 0).ravel())


def test_a_declared_output_shape_drops_the_dimensions_of_one() -> None:
    model = network([layer("activation", "x", "y", **RELU)], {"x": (2, 3, 5)}, {"y": (2, 3, 5)})
    assert run(model, x=np.ones((2, 3, 5), np.float32))["y"].shape == (2, 3, 5)


def test_a_rank_5_network_refuses_other_ranks() -> None:
    model = network([layer("activation", "x", "y", **RELU)], {"x": (2, 3)}, {"y": None})
    with pytest.raises(ConversionError, match=r"input 'x'[\s\S]*\[C, H, W\][\s\S]*found: \[2, 3\]"):
        lower_network(model, "fp32")


def test_exact_networks_keep_ranks() -> None:
    model = network([layer("activation", "x", "y", **RELU)], {"x": (2, 3)}, {"y": None}, exact=True)
    assert run(model, x=np.ones((2, 3), np.float32))["y"].shape == (2, 3)


@pytest.mark.parametrize(("colour", "order"), [("RGB", [1, 2, 3]), ("BGR", [3, 2, 1])])
def test_the_scalers_biases_follow_the_colour_order(colour: str, order: list[int]) -> None:
    scaler = {"channelScale": 0.5, "redBias": 1.0, "greenBias": 2.0, "blueBias": 3.0}
    model = network(
        [layer("activation", "image", "y", **IDENTITY)],
        {"image": f"{colour} 2x4"},
        {"y": (3, 2, 4)},
        preprocessing=[{"featureName": "image", "scaler": scaler}],
    )
    image = np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4)
    expected = image[0] * 0.5 + np.asarray(order, np.float32)[:, None, None]
    np.testing.assert_array_equal(run(model, image=image)["y"], expected)


def test_grey_bias_and_mean_image_apply_to_their_own_input() -> None:
    model = network(
        [layer("activation", "a", "y", **IDENTITY), layer("activation", "b", "z", **IDENTITY)],
        {"a": "GRAYSCALE 2x2", "b": "GRAYSCALE 2x2"},
        {"y": (1, 2, 2), "z": (1, 2, 2)},
        preprocessing=[
            {"featureName": "a", "scaler": {"channelScale": 1.0, "grayBias": -7.0}},
            {"featureName": "b", "meanImage": {"meanImage": [1.0, 2.0, 3.0, 4.0]}},
        ],
    )
    image = np.full((1, 1, 2, 2), 10, np.float32)
    results = run(model, a=image, b=image)
    np.testing.assert_array_equal(results["y"], np.full((1, 2, 2), 3))
    np.testing.assert_array_equal(results["z"], [[[9, 8], [7, 6]]])


def test_a_rank_5_network_runs_over_a_sequence_when_asked() -> None:
    """Apple's test_fixed_seq_len: 15 indices through an embedding make the 480 channels of the dense layer."""
    table, matrix = np.random.default_rng(0).normal(size=(2, 32, 10))[0], np.ones((2, 480))
    layers = [
        layer("embedding", "x", "e", inputDim=10, outputChannels=32, weights=table),
        layer("permute", "e", "p", axis=[3, 1, 2, 0]),
        layer("flatten", "p", "f"),
        layer("innerProduct", "f", "y", inputChannels=480, outputChannels=2, weights=matrix),
    ]
    model = network(layers, {"x": (1, 1, 1)}, {"y": None})
    with pytest.raises(ConversionError, match="480 input channels"):
        lower_network(model, "fp32")
    x = np.arange(15, dtype=np.float32).reshape(15, 1, 1, 1, 1) % 10
    y = run_lowered(lower_network(model, "fp32", {"x": x.shape}), x=x)["y"]
    np.testing.assert_allclose(y.ravel(), [table[:, x.ravel().astype(int)].sum()] * 2, rtol=1e-4)


def test_blobs_keep_their_names() -> None:
    layers = [
        layer("activation", "x", "relu", **RELU),
        layer("flatten", "relu", "conv_1"),
        layer("activation", "conv_1", "y", **IDENTITY),
    ]
    lowered = lower_network(network(layers, {"x": (2, 3, 5)}, {"y": (30,)}), "fp32")
    assert dict(lowered.values) == {n: n for n in ("x", "relu", "conv_1", "y")}
    results = run_lowered(lowered, ["relu", "conv_1"], x=np.ones((2, 3, 5), np.float32))
    assert results["relu"].shape == (1, 2, 3, 5)
    assert results["conv_1"].shape == (1, 30, 1, 1)


def classifier(labels: list[str], blob: str = "") -> object:
    model = network([layer("softmax", "x", "probabilities")], {"x": (3,)}, {"probabilities": None}, labels=labels)
    model.network.labelProbabilityLayerName = blob
    return model


@pytest.mark.parametrize("blob", ["", "probabilities"])
def test_classifier_scores_are_a_vector(blob: str) -> None:
    lowered = lower_network(classifier(["a", "b", "c"], blob), "fp32")  # type: ignore[arg-type]
    assert lowered.signature.scores == "probabilities"
    scores = run_lowered(lowered, x=np.asarray([1, 2, 3], np.float32))["probabilities"]
    np.testing.assert_allclose(scores, np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum(), rtol=1e-6)


def test_the_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"labels do not fit[\s\S]*2 values[\s\S]*3 values"):
        lower_network(classifier(["a", "b"]), "fp32")  # type: ignore[arg-type]


def test_a_regressors_prediction_is_an_output() -> None:
    plain = network([layer("activation", "x", "y", **RELU)], {"x": (3,)}, {"y": (3,)})
    plain.spec.neuralNetworkRegressor.layers.extend(plain.network.layers)
    plain.spec.description.predictedFeatureName = "y"
    lowered = lower_network(CoreMLModel(plain.spec, name="regressor"), "fp32")
    assert lowered.signature.predicted_label is None
    assert run_lowered(lowered, x=np.asarray([-1, 0, 2], np.float32))["y"].tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("softmax", "x x", "y", {})], r"softmax[\s\S]*wrong number of inputs[\s\S]*expected: 1\n"),
        ([("add", "x nothing", "y", {})], r"add layer 'the add': it reads the blob 'nothing', which nothing makes"),
        (
            [("innerProduct", "x", "y", {"inputChannels": 4, "outputChannels": 1, "weights": np.ones(4)})],
            r"innerProduct[\s\S]*expected: 4 input channels[\s\S]*found: 3 in a blob of shape \[1, 1, 3, 1, 1\]",
        ),
        (
            [("reshape", "x", "y", {"targetShape": [10, -1, 1, 1]})],
            r"reshape layer 'the reshape'[\s\S]*\[10, -1, 1, 1\][\s\S]*found: 3 values in \[1, 1, 3, 1, 1\]",
        ),
        (
            [("activation", "x", "y", RELU), ("softmax", "x", "y", {})],
            r"softmax layer 'the softmax': it writes the blob 'y', which exists already",
        ),
        (
            [("loadConstant", "", "c", {"shape": [2, 1, 1], "data": np.ones(2)}), ("add", "x c", "y", {})],
            r"the inputs of layer 'the add' do not fit together[\s\S]*Add accepts[\s\S]*found: .*3.*2",
        ),
    ],
)
def test_refusals_name_the_layer_with_what_was_expected_and_found(
    layers: list[tuple[str, str, str, dict[str, object]]], message: str
) -> None:
    model = network([layer(k, i, o, **f) for k, i, o, f in layers], {"x": (3,)}, {"y": None})
    with pytest.raises(ConversionError, match=message):
        lower_network(model, "fp32")
