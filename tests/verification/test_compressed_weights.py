"""What bits explain of a compressed weight's distance from its source's is carried on; what they do not is a divergence."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.layer_weights import layer_weights
from coreproof.verification.compressed_weights import compressed_weights
from coreproof.verification.rounded_weights import altered, explains
from coreproof.verification.verify import verify
from tests.build import graph_model, inner_product, mil, network, weights

WEIGHT = weights(24, 40)
GAMMA = (
    np.geomspace(0.2, 3, 24).astype(np.float32)[:, None]
    * np.where(np.arange(24) % 5, 1, -1).astype(np.float32)[:, None]
)


def whole(weight: np.ndarray = WEIGHT) -> Any:
    """The source: a product behind an activation."""
    text = "agraph (float[6,40] x) => (float[6,24] y) {\n s = Relu(x)\n y = Gemm<transB=1>(s, w, b)\n}"
    return graph_model(text, w=weight, b=np.zeros(24, np.float32))


def program(folder: Path, form: Callable[[Any], Any], target: str = "iOS18") -> CoreMLModel:
    return mil(folder, lambda mb, x: mb.linear(x=mb.relu(x=x), weight=form(mb), name="y"), (6, 40), target=target)


def eight_bits(weight: np.ndarray) -> Callable[[Any], Any]:
    most = np.maximum(np.abs(weight).max(1), 1e-6) / 127
    data = np.rint(weight / most[:, None]).astype(np.int8)
    return lambda mb: mb.constexpr_affine_dequantize(
        quantized_data=data, zero_point=np.int8(0), scale=most.astype(np.float32), axis=0
    )


def four_bits_a_block(weight: np.ndarray) -> Callable[[Any], Any]:
    scale = np.maximum(np.abs(weight.reshape(24, 5, 8)).max(-1), 1e-6) / 7
    data = np.rint(weight / np.repeat(scale, 8, 1))

    def form(mb: Any) -> Any:
        from coremltools.converters.mil.mil import types

        nibble = types.nptype_from_builtin(types.string_to_builtin("int4"))
        return mb.constexpr_blockwise_shift_scale(data=data.astype(nibble), scale=scale.astype(np.float32))

    return form


def table(weight: np.ndarray) -> Callable[[Any], Any]:
    """Four bits, packed as before iOS18."""
    lut = np.linspace(weight.min(), weight.max(), 16, dtype=np.float32)
    nearest = np.abs(weight.reshape(-1, 1) - lut).argmin(1).astype(np.uint8)
    packed = (nearest[0::2] | nearest[1::2] << 4).astype(np.uint8)
    return lambda mb: mb.constexpr_lut_to_dense(indices=packed, lut=lut, shape=np.array(weight.shape, np.uint32))


FORMS = [(eight_bits, "iOS16"), (table, "iOS16"), (four_bits_a_block, "iOS18")]


@pytest.mark.parametrize(("form", "target"), FORMS)
def test_a_compressed_weight_is_carried_on_as_far_as_its_bits_explain(
    form: Callable[..., Any], target: str, tmp_path: Path
) -> None:
    # numbers of a compressed reference are not exchanged
    found = verify(program(tmp_path, form(WEIGHT), target), whole())
    assert found
    assert found.loss is None
    row = found.rows[-1]
    # predicted from the weight itself: neither more nor less than what is found
    assert 0.25 < row.judgement.rms_relative_error / (row.tolerance.typical or 0.0) < 0.9
    assert "compressed, and off by up to" in found.summary()
    assert found.to_json()["compressed_weights"] == found.compressed.to_json()


@pytest.mark.parametrize(("form", "target"), FORMS)
def test_a_source_is_held_against_with_the_numbers_that_are_stored(
    form: Callable[..., Any], target: str, tmp_path: Path
) -> None:
    candidate, x = (
        program(tmp_path, form(WEIGHT), target),
        np.random.default_rng(1).normal(size=(6, 40)).astype(np.float32),
    )
    found = verify(whole(), candidate, inputs={"x": x})
    assert found
    assert (found.rows[-1].tolerance.typical or 1.0) < 1e-5
    stored = layer_weights(candidate, "y")["weight"].astype(np.float64)
    right, made = np.maximum(x, 0) @ WEIGHT.T, np.maximum(x, 0) @ stored.T
    assert found.loss is not None
    assert found.loss.share == pytest.approx(np.sqrt(np.mean((made - right) ** 2) / np.mean(right**2)), rel=1e-3)
    first = found.summary().splitlines()[0]
    assert "with the weights as they are stored" in first
    assert str(found.loss) in first
    assert found.to_json()["compression_loss"] == found.loss.to_json()


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("form", "target"), FORMS)
@pytest.mark.parametrize("at", [0, 23])
def test_a_channel_that_is_wrong_is_explained_by_no_bits(
    form: Callable[..., Any], target: str, at: int, tmp_path: Path
) -> None:
    wrong = WEIGHT.copy()
    wrong[at] = -wrong[at]
    found = verify(whole(), program(tmp_path, form(wrong), target))
    assert not found
    assert found.compressed.unexplained
    assert "further from the other side's than their bits explain" in found.summary()


def exchanged(weight: np.ndarray) -> np.ndarray:
    return weight[[3, 1, 2, 0, *range(4, len(weight))]]


def a_row_larger(weight: np.ndarray) -> np.ndarray:
    return weight * np.where(np.arange(len(weight)) == 5, 1.3, 1.0).astype(np.float32)[:, None]


def a_row_gone(weight: np.ndarray) -> np.ndarray:
    return weight * (np.arange(len(weight)) != 5)[:, None]


def two_bits(weight: np.ndarray) -> Callable[[Any], Any]:
    lut = np.quantile(weight, [0.1, 0.35, 0.65, 0.9]).astype(np.float32)
    nearest = np.abs(weight.reshape(-1, 4, 1) - lut).argmin(-1).astype(np.uint8)
    packed = (nearest << np.array([0, 2, 4, 6], np.uint8)).sum(1).astype(np.uint8)
    return lambda mb: mb.constexpr_lut_to_dense(indices=packed, lut=lut, shape=np.array(weight.shape, np.uint32))


FAULTS = [
    (exchanged, "row 0 holds row 3 of its source, row 3 holds row 0 of its source"),
    (a_row_larger, "row 5 is 1"),
    (a_row_gone, "row 5 "),
]


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("fault", "told"), FAULTS)
@pytest.mark.parametrize(("form", "target"), FORMS)
def test_rows_that_are_not_the_source_s_are_named(
    form: Callable[..., Any], target: str, fault: Callable[..., Any], told: str, tmp_path: Path
) -> None:
    found = compressed_weights(whole(), program(tmp_path, form(fault(WEIGHT)), target))
    assert list(found.unexplained) == ["y"]
    assert found.unexplained["y"].startswith(told)
    assert found.to_json()["altered"] == found.unexplained
    # and columns, where a tool keeps the weight the other way round
    turned = "agraph (float[6,40] x) => (float[6,24] y) {\n s = Relu(x)\n y = MatMul(s, w)\n}"
    source = graph_model(turned, w=WEIGHT.T.copy())
    assert (
        compressed_weights(source, program(tmp_path / "t", form(fault(WEIGHT)), target)).unexplained
        == found.unexplained
    )


def test_rows_in_two_bits_are_told_from_each_other(tmp_path: Path) -> None:
    assert not compressed_weights(whole(), program(tmp_path, two_bits(WEIGHT), "iOS16")).unexplained
    found = compressed_weights(whole(), program(tmp_path / "again", two_bits(exchanged(WEIGHT)), "iOS16"))
    assert found.unexplained["y"].startswith("row 0 holds row 3")


def test_a_row_that_pruning_would_have_kept_is_lost() -> None:
    kept = np.abs(WEIGHT) > np.quantile(np.abs(WEIGHT), 0.5)
    steps = np.where(kept, 0.0, np.nan)
    meant = WEIGHT.astype(np.float64)
    assert explains(np.where(kept, meant, 0.0), meant, steps)
    for axis, what in ((0, "row"), (1, "column")):
        gone = kept & (
            np.moveaxis(np.broadcast_to(np.arange(kept.shape[axis]) != 7, np.roll(kept.shape, -1 - axis)), -1, axis)
        )
        now, holes = np.where(gone, meant, 0.0), np.where(gone, 0.0, np.nan)
        assert not explains(now, meant, holes)
        assert altered(now, meant, holes) == f"{what} 7 holds zeros"
    # whole rows, or two of four numbers, are pruned on purpose
    rows = np.broadcast_to((np.arange(24) % 3 > 0)[:, None], kept.shape)
    small = np.where(rows, meant, 0.1 * meant)
    assert explains(np.where(rows, small, 0.0), small, np.where(rows, 0.0, np.nan))
    fours = np.abs(meant).reshape(24, 10, 4)
    half = (np.argsort(np.argsort(fours, -1), -1) > 1).reshape(kept.shape)
    assert explains(np.where(half, meant, 0.0), meant, np.where(half, 0.0, np.nan))


def test_a_tool_that_rounds_no_row_to_the_nearest_is_no_fault() -> None:
    """As GPTQ does: a fifth of the numbers become the one beyond, in all rows alike."""
    step = np.full(WEIGHT.shape, np.abs(WEIGHT).max() / 7)
    beyond = np.where(np.random.default_rng(2).random(WEIGHT.shape) < 0.2, 0.5, 0.0)
    now = (np.rint(WEIGHT / step + beyond * np.sign(WEIGHT)) * step).astype(np.float64)
    assert explains(now, WEIGHT.astype(np.float64), step)
    assert not explains(exchanged(now), WEIGHT.astype(np.float64), step)


def recurrent(w: np.ndarray, r: np.ndarray) -> Any:
    text = (
        "agraph (float[6,1,16] x) => (float[6,1,1,24] y, float[1,1,24] h) {"
        " y, h = GRU<hidden_size=24, linear_before_reset=1>(x, W, R) }"
    )
    return graph_model(text, W=w, R=r)


@pytest.mark.thorough
@pytest.mark.parametrize("compress", ["linear:8", "palettize:4"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_layer_that_is_written_out_step_by_step_proves_nothing_with_rows_exchanged(
    which: int, compress: Any, tmp_path: Path
) -> None:
    """Its inner values have no partner, and the bounds of what is left grow from step to step."""
    pair = [0.3 * weights(1, 72, 16), 0.3 * weights(1, 72, 24)]
    source = recurrent(*pair)
    assert verify(source, cp.convert(source, "mlprogram", compress=compress, check=False)).proves
    pair[which] = np.stack([exchanged(pair[which][0])])
    found = verify(source, cp.convert(recurrent(*pair), "mlprogram", compress=compress, check=False))
    assert not found.proves
    assert "row 0 holds row 3 of its source" in found.summary()
    if found.agrees:
        assert "holds row 3 of its source" in found.summary().splitlines()[0]


@pytest.mark.parametrize("between", [False, True])
def test_a_scale_that_was_folded_into_a_weight_is_a_factor_a_channel(tmp_path: Path, between: bool) -> None:
    moved = "i = Reshape(h, same)\n y = Mul(gamma, i)" if between else "y = Mul(h, gamma)"
    text = "agraph (float[6,40] x) => (float[6,24] y) {\n s = Relu(x)\n h = Gemm<transB=1>(s, w, b)\n " + moved + "\n}"
    gamma = GAMMA.reshape(-1).astype(np.float32)
    held = {"w": WEIGHT, "b": np.zeros(24, np.float32), "gamma": gamma}
    source = graph_model(text, **held, **({"same": np.array([6, 24])} if between else {}))
    known = compressed_weights(source, program(tmp_path, eight_bits(WEIGHT * GAMMA), "iOS16"))
    assert not known.unexplained
    assert max(known.explained.values()).share < 0.02
    # which excuses no factor that the source does not have
    assert compressed_weights(whole(), program(tmp_path / "again", eight_bits(WEIGHT * GAMMA), "iOS16")).unexplained
    assert not verify(whole(), program(tmp_path / "once more", eight_bits(WEIGHT * GAMMA), "iOS16"))


FORMS = {
    "palette": ("palettize:4", "iOS16"),
    "small palette": ("palettize:2", "iOS16"),
    "blocks": ("linear:4:block=32", "iOS18"),
    "eight bits": ("linear:8", "iOS16"),
    "pruned": ("prune:0.5", "iOS16"),
}
MOVED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "larger": lambda w: w * np.float32(1.2),
    "smaller": lambda w: w * np.float32(0.75),
    "shifted": lambda w: w + np.float32(0.03),
    "half of it smaller": lambda w: np.where(np.arange(len(w))[:, None] < 32, w * np.float32(0.5), w),
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    ("form", "fault"),
    # four numbers for half a weight of another size are no worse than for the whole one
    [
        (form, fault)
        for form in FORMS
        for fault in ("", *MOVED)
        if (form, fault) != ("small palette", "half of it smaller")
    ],
)
def test_a_weight_that_is_larger_or_shifted_as_a_whole_is_no_rounding(form: str, fault: str) -> None:
    """Each number lies within a step of the source's, and all of them on the same side."""
    weight = weights(64, 128, seed=3) / 8
    compress, target = FORMS[form]
    made = MOVED[fault](weight) if fault else weight

    def product(w: np.ndarray) -> Any:
        return graph_model("agraph (float[1,64] x) => (float[1,128] y) {\n y = MatMul(x, w)\n}", w=w.astype(np.float32))

    to: Any = {"precision": "fp32", "target": target, "compress": compress, "check": False}
    found = verify(product(weight), cp.convert(product(made), "mlprogram", **to))
    assert found.proves == (not fault), found.summary()
    if form in ("palette", "blocks") and fault in ("larger", "smaller"):
        assert f"all of it is {'1.' if fault == 'larger' else '0.'}" in found.summary()
    if form in ("palette", "blocks") and fault == "shifted":
        assert "all of it is shifted by 0.03" in found.summary()


UNEVEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mostly zeros": lambda w: w * (np.random.default_rng(1).random(w.shape) < 0.3),
    "of one sign": lambda w: np.exp(8 * w) * 0.05,
    "heavy tails": lambda w: w * np.abs(w * 8) ** 1.5,
}


@pytest.mark.sweep(4)
@pytest.mark.parametrize("uneven", UNEVEN)
@pytest.mark.parametrize(("mode", "bits"), [("uniform", 8), ("uniform", 4), ("kmeans", 4), ("kmeans", 2)])
def test_a_table_that_is_uneven_around_the_weight_moves_it_and_is_right(
    uneven: str, mode: str, bits: int, tmp_path: Path
) -> None:
    """Each number became the nearest entry, and all zeros the same one, which is not zero."""
    weight = UNEVEN[uneven](weights(64, 128, seed=3) / 8).astype(np.float32)
    source = graph_model("agraph (float[1,64] x) => (float[1,128] y) {\n y = MatMul(x, w)\n}", w=weight)
    cp.convert(source, "mlprogram", target="iOS18", precision="fp32").save(tmp_path / "plain.mlpackage")
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        import coremltools as ct

        tools = ct.optimize.coreml
        how = tools.OptimizationConfig(tools.OpPalettizerConfig(mode=mode, nbits=bits, weight_threshold=100))
        plain = ct.models.MLModel(str(tmp_path / "plain.mlpackage"), skip_model_load=True)
        tools.palettize_weights(plain, how).save(str(tmp_path / "small.mlpackage"))
    found = compressed_weights(source, cp.load(tmp_path / "small.mlpackage"))
    assert found.explained
    assert not found.unexplained


def test_a_network_in_eight_bits_is_carried_on_too() -> None:
    layer = inner_product("fc", "x", "y", np.rint(WEIGHT * 0))
    scale = (WEIGHT.max() - WEIGHT.min()) / 255
    steps = np.rint((WEIGHT - WEIGHT.min()) / scale).astype(np.uint8)
    layer.innerProduct.weights.Clear()
    layer.innerProduct.weights.rawValue = steps.tobytes()
    layer.innerProduct.weights.quantization.numberOfBits = 8
    layer.innerProduct.weights.quantization.linearQuantization.scale.append(scale)
    layer.innerProduct.weights.quantization.linearQuantization.bias.append(WEIGHT.min())
    text = "agraph (float[6,40] x) => (float[6,24] y) {\n y = Gemm<transB=1>(x, w)\n}"
    candidate = network([layer], {"x": (6, 40)}, {"y": (6, 24)}, exact=True)
    found = verify(graph_model(text, w=WEIGHT), candidate)
    assert found
    assert 0 < found.compressed.explained["fc"].share < 0.02


def test_of_two_sides_compressed_alike_nothing_is_left(tmp_path: Path) -> None:
    model = program(tmp_path, table(WEIGHT), "iOS16")
    found = verify(model, model)
    assert found
    assert max(found.compressed.explained.values()).share == 0.0


def test_a_source_may_be_the_one_that_is_compressed(tmp_path: Path) -> None:
    found = verify(program(tmp_path, eight_bits(WEIGHT), "iOS16"), whole())
    assert found
    assert 0 < max(found.compressed.explained.values()).share < 0.02


def test_plain_models_have_no_compressed_weights() -> None:
    assert verify(whole(), whole()).compressed.explained == {}


@pytest.mark.parametrize(("form", "target"), [(eight_bits, "iOS16"), (table, "iOS16"), (four_bits_a_block, "iOS18")])
def test_a_single_number_that_is_another_is_a_fault(form: Callable[..., Any], target: str, tmp_path: Path) -> None:
    """The rms of a long row hides one number of it, of which a tool that rounds to the nearest makes no other."""
    changed = WEIGHT.copy()
    changed[5, 7] = -0.5 * changed.max() if changed[5, 7] > 0 else 0.5 * changed.max()
    changed[5, 7] = np.clip(changed[5, 7], WEIGHT[5, :].min(), WEIGHT[5, :].max())
    for weight, agrees in ((WEIGHT, True), (changed, False)):
        made = program(tmp_path / str(agrees), form(weight), target)
        found = verify(whole(), made)
        assert bool(found and found.proves) is agrees, found.summary()
    assert any("[5, 7]" in words for words in found.compressed.unexplained.values())


def cut_off_table(weight: np.ndarray, gain: float = 1.0) -> Callable[[Any], Any]:
    """A table of 16 integers for each row, times its scale: means of the row's integers, their fractions cut off."""
    scale = np.abs(weight).max(1, keepdims=True) / 127
    whole = gain * np.rint(weight / scale)
    order = np.sort(whole, axis=1).reshape(len(weight), 16, -1)
    lut = np.trunc(order.mean(-1)).astype(np.int8)
    indices = np.abs(whole[:, :, None] - order.mean(-1)[:, None]).argmin(-1).astype(np.uint8)

    def form(mb: Any) -> Any:
        from coremltools.converters.mil.mil import types

        nibble = types.nptype_from_builtin(types.string_to_builtin("uint4"))
        scales = scale.reshape(-1, 1, 1, 1).astype(np.float32)
        table = mb.constexpr_blockwise_shift_scale(data=lut.reshape(len(weight), 1, 16, 1), scale=scales)
        return mb.constexpr_lut_to_dense(indices=indices.astype(nibble), lut=table)

    return form


@pytest.mark.parametrize(("gain", "agrees"), [(1.0, True), (0.93, False)])
def test_a_table_of_integers_that_were_cut_off_is_explained(gain: float, agrees: bool, tmp_path: Path) -> None:
    """As coremltools makes it of a weight in 8 bits (joint_compression): all of it is smaller by half an integer."""
    weight = np.random.default_rng(8).normal(size=(24, 320)).astype(np.float32)
    made = mil(
        tmp_path,
        lambda mb, x: mb.linear(x=mb.relu(x=x), weight=cut_off_table(weight, gain)(mb), name="y"),
        (6, 320),
        target="iOS18",
    )
    text = "agraph (float[6,320] x) => (float[6,24] y) {\n s = Relu(x)\n y = Gemm<transB=1>(s, w, b)\n}"
    source = graph_model(text, w=weight, b=np.zeros(24, np.float32))
    found = verify(source, made)
    assert bool(found and found.proves) is agrees, found.summary()
