"""What depends on chance: its distribution, that a seed repeats it, and dropout, whose kept elements are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import check_node, convert_node

X = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
BOTH = [("mlprogram", "iOS17"), ("neuralnetwork", None)]


def drawn(model: Any, to: str, target: str | None, **fed: Any) -> list[np.ndarray]:
    with session(convert_node(model, to, target)) as running:
        return [np.asarray(v) for v in running.run(fed).values()]


def with_float(operator: str, **attributes: Any) -> Any:
    return node_model(operator, {"x": X}, opset=15, **attributes)


@pytest.mark.parametrize(("to", "target"), BOTH)
def test_uniform_and_normal_numbers_have_their_moments(to: str, target: str | None) -> None:
    (even,) = drawn(with_float("RandomUniformLike", low=-2.0, high=4.0, seed=1.0), to, target, x=X)
    assert even.shape == X.shape
    assert even.min() >= -2
    assert even.max() < 4
    assert abs(even.mean() - 1) < 0.2
    assert abs(even.std() - 6 / 12**0.5) < 0.1
    (bell,) = drawn(with_float("RandomNormalLike", mean=3.0, scale=0.5, seed=1.0), to, target, x=X)
    assert bell.shape == X.shape
    assert abs(bell.mean() - 3) < 0.05
    assert abs(bell.std() - 0.5) < 0.05
    assert abs(((bell - 3) > 0.5).mean() - 0.1587) < 0.03


@pytest.mark.parametrize(("operator", "attributes"), [("RandomUniform", {}), ("RandomNormal", {})])
def test_a_shape_that_is_said_is_drawn(operator: str, attributes: dict[str, Any]) -> None:
    made = node_model(operator, {}, order=[], shape=[2, 3, 4], seed=7.0, **attributes)
    (numbers,) = drawn(made, "mlprogram", "iOS16")
    assert numbers.shape == (2, 3, 4)
    assert len(np.unique(numbers)) == 24


@pytest.mark.parametrize("operator", ["RandomUniform", "RandomNormal"])
def test_random_integers_are_refused_by_name(operator: str) -> None:
    made = node_model(operator, {}, order=[], shape=[2], dtype=10, outputs=[np.float16])
    convert_node(made, "mlprogram", "iOS16")
    made = node_model(operator, {}, order=[], shape=[2], dtype=7, outputs=[np.int64])
    with pytest.raises(ConversionError, match="random numbers of type INT64"):
        convert_node(made, "mlprogram", "iOS16")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_bernoulli_draws_ones_with_the_probability_that_is_fed(share: float) -> None:
    made = node_model("Bernoulli", {"x": X}, opset=15, seed=3.0)
    (ones,) = drawn(made, "mlprogram", "iOS17", x=np.full(X.shape, share, np.float32))
    assert set(np.unique(ones)) <= {0, 1}
    assert abs(ones.mean() - share) < (0.04 if 0 < share < 1 else 1e-9)


def test_multinomial_draws_what_is_likely() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7], [1e-9, 1.0, 1e-9]], np.float32))
    made = node_model("Multinomial", {"x": logits}, outputs=[np.int32], opset=15, sample_size=4000, seed=5.0)
    (classes,) = drawn(made, "mlprogram", "iOS17", x=logits)
    assert classes.shape == (2, 4000)
    np.testing.assert_allclose(np.bincount(classes[0].astype(int), minlength=3) / 4000, [0.1, 0.2, 0.7], atol=0.04)
    assert (classes[1] == 1).all()


def dropout(**fed: Any) -> Any:
    return node_model("Dropout", {"x": X, **fed}, outputs=[np.float32, np.bool_], opset=13)


def test_dropout_of_training_drops_the_share_that_is_fed_and_scales_the_rest() -> None:
    ratio, training = np.float32(0.25), np.bool_(True)
    made = dropout(ratio=ratio, training=training)
    y, mask = drawn(made, "mlprogram", "iOS17", x=X, ratio=np.atleast_1d(ratio), training=np.array([1]))
    assert abs(mask.mean() - 0.75) < 0.05
    np.testing.assert_allclose(y, np.where(mask, X / 0.75, 0), rtol=1e-5)
    y, mask = drawn(made, "mlprogram", "iOS17", x=X, ratio=np.atleast_1d(ratio), training=np.array([0]))
    assert mask.all()
    np.testing.assert_array_equal(y, X)
    y, mask = drawn(made, "mlprogram", "iOS17", x=X, ratio=np.zeros(1, np.float32), training=np.array([1]))
    np.testing.assert_array_equal(y, X)


def test_a_ratio_that_is_fed_changes_nothing_where_nothing_is_trained() -> None:
    check_node("Dropout", {"x": X, "ratio": np.array([0.5], np.float32)}, [X, np.ones(X.shape, np.bool_)], opset=13)


def test_dropout_of_training_is_refused_where_the_model_itself_says_it() -> None:
    model = node_model("Dropout", {"x": X}, {"ratio": np.float32(0.3), "training": np.bool_(True)}, opset=13)
    with pytest.raises(ConversionError, match="training mode"):
        convert_node(model, "mlprogram", None)
