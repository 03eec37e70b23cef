"""Scales beside a layer that a compressed weight holds: the source's own are known, and no other factor is one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.convert import convert as translate
from coreproof.model.layer_weights import all_weights
from coreproof.verification.compressed_weights import compressed_weights
from coreproof.verification.rounded_weights import explains
from coreproof.verification.scaled_layers import scales_beside
from coreproof.verification.verify import verify
from tests.build import graph_model, weights

LAYERS: dict[str, tuple[str, tuple[int, ...], str, str]] = {
    "conv1d": ("Conv<pads=[1,1]>", (16, 8, 3), "1,8,16", "1,16,16"),
    "conv2d": ("Conv<pads=[1,1,1,1]>", (16, 8, 3, 3), "1,8,8,8", "1,16,8,8"),
    "grouped": ("Conv<group=4,pads=[1,1,1,1]>", (16, 4, 3, 3), "1,16,8,8", "1,16,8,8"),
    "depthwise": ("Conv<group=16,pads=[2,2,2,2]>", (16, 1, 5, 5), "1,16,8,8", "1,16,8,8"),
    "transposed": ("ConvTranspose<strides=[2,2]>", (8, 16, 2, 2), "1,8,5,5", "1,16,10,10"),
    "product": ("MatMul", (32, 16), "6,32", "6,16"),
}
"""Operator, weight, input and output; 16 channels each, along the first axis of the weight or the second."""

SCHEMES = [("linear:8", "fp16"), ("linear:4", "fp32"), ("prune:0.5", "fp16")]
VARIANCE = np.geomspace(0.3, 3, 16)[np.random.default_rng(5).permutation(16)].astype(np.float32)
SHIFT = 0.3 * weights(16, seed=2)


def scale_of(affine: bool) -> np.ndarray:
    signs = np.where(np.arange(16) % 5, 1, -1)
    return (np.geomspace(0.5, 2, 16) * signs if affine else np.ones(16)).astype(np.float32)


def normalised(layer: str, affine: bool) -> Any:
    """A layer, and a batch normalisation behind it."""
    operator, shape, reads, makes = LAYERS[layer]
    text = (
        f"agraph (float[{reads}] x) => (float[{makes}] z) {{\n"
        f" h = {operator}(x, w)\n y = BatchNormalization(h, s, b, m, v)\n z = Relu(y)\n}}"
    )
    held = {"w": weight_of(shape), "s": scale_of(affine), "b": np.zeros(16, np.float32), "m": SHIFT, "v": VARIANCE}
    return graph_model(text, **held)


def weight_of(shape: tuple[int, ...]) -> np.ndarray:
    return (0.2 * weights(*shape, seed=1)).astype(np.float32)


def folded(layer: str, factors: np.ndarray, right: np.ndarray | None = None) -> Any:
    """The layer with factors in its weight; the bias from the ``right`` ones, or from the same."""
    operator, shape, reads, makes = LAYERS[layer]
    axis = 0 if operator.startswith("Conv<") else 1
    along = factors.reshape([-1 if at == axis else 1 for at in range(len(shape))])
    held = {
        "w": (weight_of(shape) * along).astype(np.float32),
        "b": (-SHIFT * (factors if right is None else right)).astype(np.float32),
    }
    made = f"h = {operator}(x, w)\n y = Add(h, b)" if layer == "product" else f"y = {operator}(x, w, b)"
    return graph_model(f"agraph (float[{reads}] x) => (float[{makes}] z) {{\n {made}\n z = Relu(y)\n}}", **held)


def factors_of(affine: bool, variance: np.ndarray = VARIANCE, epsilon: float = 1e-5) -> np.ndarray:
    made: np.ndarray = scale_of(affine) / np.sqrt(variance + epsilon)
    return made


def one_larger(affine: bool) -> np.ndarray:
    return factors_of(affine) * np.where(np.arange(16) == 3, 1.5, 1.0)


FAULTS: dict[str, Callable[[bool], np.ndarray]] = {
    "variance": lambda affine: factors_of(affine, 1.5 * VARIANCE),
    "no variance": lambda affine: scale_of(affine) + 0.0,
    "epsilon": lambda affine: factors_of(affine, epsilon=0.3),
    "all larger": lambda affine: 1.25 * factors_of(affine),
    "one larger": one_larger,
    "another order": lambda affine: np.roll(factors_of(affine), 1),
}


def compressed(model: Any, scheme: Any, precision: Any) -> Any:
    return cp.convert(model, "mlprogram", precision=precision, compress=scheme, target="iOS18", check=False)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("layer", "affine", "scheme", "precision"),
    [
        *((layer, affine, "palettize:4", "fp16") for layer in LAYERS for affine in (True, False)),
        *((layer, True, *how) for layer in ("conv2d", "transposed") for how in SCHEMES),
    ],
)
def test_a_normalisation_in_a_compressed_weight_is_the_source_s(
    layer: str, affine: bool, scheme: Any, precision: Any
) -> None:
    source, right = normalised(layer, affine), factors_of(affine)
    good = compressed_weights(source, compressed(folded(layer, right), scheme, precision))
    assert not good.unexplained
    assert good.stored
    assert not good.unsure.keys() - {"y", "h"}
    assert all(distance.share == 0 for distance in good.unsure.values())
    for name, fault in FAULTS.items():
        # what is zero of one normalisation's scales is the other's too
        if affine or name != "no variance":
            wrong = compressed_weights(source, compressed(folded(layer, fault(affine)), scheme, precision))
            assert wrong.unexplained, name


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["palettize:4", "palettize:2", "linear:8"])
@pytest.mark.parametrize("layer", ["conv2d", "transposed", "product"])
def test_verify_agrees_with_the_source_s_factors_alone(layer: str, scheme: str) -> None:
    source, right = normalised(layer, False), factors_of(False)
    found = verify(source, compressed(folded(layer, right), scheme, "fp16"))
    assert found.loss is not None
    # four numbers for all of a weight may ruin it
    assert found.agrees, found.summary()
    assert found.proves != found.loss.ruins
    assert max(row.tolerance.typical or 0.0 for row in found.rows) < 0.01
    assert not verify(source, compressed(folded(layer, FAULTS["variance"](False)), scheme, "fp16"))
    if scheme != "palettize:2":  # of 1.5 times a row, few numbers become another of four
        assert not verify(source, compressed(folded(layer, one_larger(False), right), scheme, "fp16"))


SCALED = [
    # a chain, of which a converter takes all, or the first, and leaves the rest
    ("h = MatMul(x, w)\n i = Mul(h, k)\n y = Div(i, three)", lambda w, k: w * k / 3, ""),
    ("h = MatMul(x, w)\n i = Mul(h, k)\n y = Div(i, three)", lambda w, k: w * k, "y = Div(h, three)"),
    ("h = MatMul(x, w)\n i = Mul(h, k)\n y = Div(i, three)", lambda w, k: w / 3, "y = Mul(h, k)"),
    # before the layer, and a bias between
    ("g = Mul(x, j)\n i = Add(g, c)\n y = MatMul(i, w)", lambda w, k: k[:, None] * w, None),
    ("g = LayerNormalization<axis=-1>(x, j, c)\n y = MatMul(g, w)", lambda w, k: k[:, None] * w, None),
    ("y = Gemm<alpha=0.25>(x, w)", lambda w, k: 0.25 * w, ""),
]


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("beside", "into", "left"), SCALED)
def test_known_products_are_the_only_ones(beside: str, into: Callable[..., np.ndarray], left: str | None) -> None:
    w, j = 0.2 * weights(24, 24, seed=4), np.geomspace(0.3, 3, 24)[::-1].astype(np.float32)
    k = j[::-1].copy()
    held = {"w": w, "k": k, "j": j, "c": weights(24, seed=6), "three": np.full(1, 3, np.float32)}
    text = "agraph (float[6,24] x) => (float[6,24] y) {\n " + beside + "\n}"
    source = graph_model(text, **{name: value for name, value in held.items() if f"{name}" in text})

    def candidate(factor: np.ndarray) -> Any:
        made = into(w, j if left is None else k) * factor
        # what else is left out makes no difference to a weight
        body = {None: "h = Relu(x)\n y = MatMul(h, w)", "": "y = MatMul(x, w)"}.get(left, f"h = MatMul(x, w)\n {left}")
        model = graph_model(
            "agraph (float[6,24] x) => (float[6,24] y) {\n " + body + "\n}",
            **{n: v for n, v in {**held, "w": made.astype(np.float32)}.items() if f"{n})" in body},
        )
        return compressed(model, "palettize:4", "fp32")

    assert not compressed_weights(source, candidate(np.ones(1))).unexplained
    assert compressed_weights(source, candidate(np.full(1, 1.3))).unexplained
    assert compressed_weights(source, candidate(np.where(np.arange(24) == 2, 1.6, 1.0))).unexplained


@pytest.mark.thorough
def test_a_factor_that_is_not_stored_is_guessed_and_its_doubt_alone_is_carried_on() -> None:
    """Its weight is run with the candidate's numbers all the same, so that a channel that is wrong shows in the value."""
    w, k = 0.2 * weights(64, 48, seed=4), np.geomspace(0.4, 2.5, 48).astype(np.float32)
    # a scale that is computed when the model runs
    text = (
        "agraph (float[8,64] x) => (float[8,48] z) {\n a = Abs(k)\n h = MatMul(x, w)\n y = Mul(h, a)\n z = Relu(y)\n}"
    )
    source = graph_model(text, w=w, k=k)
    body = "agraph (float[8,64] x) => (float[8,48] z) {\n y = MatMul(x, w)\n z = Relu(y)\n}"

    def candidate(factors: np.ndarray) -> Any:
        return compressed(graph_model(body, w=(w * factors).astype(np.float32)), "palettize:4", "fp16")

    known = compressed_weights(source, candidate(k))
    assert not known.unexplained
    assert 0 < known.unsure["y"].share < 0.3 * known.explained["y"].share
    good = verify(source, candidate(k))
    assert good.proves, good.summary()
    assert good.loss is not None
    assert not verify(source, candidate(k * np.where(np.arange(48) == 40, 1.5, 1.0)))


@pytest.mark.parametrize("target", ["onnx", "mlprogram", "neuralnetwork"])
def test_the_scales_beside_a_layer_are_read_in_every_format(target: Any) -> None:
    text = (
        "agraph (float[1,8,6,6] x) => (float[1,16,6,6] z) {\n h = Conv<pads=[1,1,1,1]>(x, w)\n i = Mul(h, k)\n"
        " y = BatchNormalization(i, s, b, b, v)\n j = Div(y, three)\n z = Relu(j)\n}"
    )
    k = np.geomspace(0.5, 4, 16).astype(np.float32).reshape(16, 1, 1)
    held = {"w": weight_of((16, 8, 3, 3)), "k": k, "s": scale_of(True), "b": np.zeros(16, np.float32)}
    source = graph_model(text, **held, v=VARIANCE, three=np.array(3, np.float32))
    model: Any = source if target == "onnx" else translate(source, target, precision="float32")
    ((_, found),) = [each for each in scales_beside(model.graph, all_weights(model)).items() if each[1].behind]
    assert not found.unknown
    assert not found.before
    expected = k.reshape(-1) * factors_of(True) / 3
    np.testing.assert_allclose(found.behind[-1], expected, rtol=1e-4)
    if target == "onnx":
        np.testing.assert_allclose(found.behind[0], k.reshape(-1), rtol=1e-6)
        assert len(found.behind) == 3


def test_integers_of_a_quantised_layer_are_the_numbers_that_they_stand_for() -> None:
    text = (
        "agraph (uint8[1,24] x) => (uint8[1,16] y) {\n y = QLinearMatMul(x, one, zero, w, scale, zeros, one, zero)\n}"
    )
    scale = np.geomspace(0.01, 0.1, 16).astype(np.float32)
    whole = np.random.default_rng(3).integers(-120, 120, (24, 16)).astype(np.int8)
    held: dict[str, Any] = {"one": np.array(0.05, np.float32), "zero": np.array(128, np.uint8), "w": whole}
    source = graph_model(text, **held, scale=scale, zeros=np.zeros(16, np.int8))

    def candidate(factors: np.ndarray) -> Any:
        real = (whole * scale * factors).astype(np.float32)
        body = "agraph (float[1,24] x) => (float[1,16] y) {\n y = MatMul(x, w)\n}"
        return compressed(graph_model(body, w=real), "linear:8", "fp32")

    assert not compressed_weights(source, candidate(np.ones(16))).unexplained
    assert compressed_weights(source, candidate(np.where(np.arange(16) == 3, 1.2, 1.0))).unexplained
    assert compressed_weights(source, candidate(np.full(16, 0.8))).unexplained


def test_a_vector_in_a_table_is_a_weight_too() -> None:
    """A bias has no rows, and as many numbers as it likes."""
    vector = np.sort(weights(200, seed=8)).astype(np.float64)
    table = np.linspace(vector[0], vector[-1], 16)
    near = table[np.abs(vector[:, None] - table).argmin(1)]
    steps = np.full(vector.shape, table[1] - table[0])
    assert explains(near, vector, steps)
    assert explains(near + 0.01 * np.sign(near), vector, steps * np.linspace(1, 2, 200))
    assert not explains(1.3 * near, vector, steps)
