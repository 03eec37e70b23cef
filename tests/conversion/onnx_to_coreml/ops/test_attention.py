"""Attention as ONNX Runtime writes it, against its own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.errors import ConversionError
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.conversion.onnx_to_coreml.microsoft_node import PROGRAMS, check_microsoft, microsoft_model
from tests.drawn import RNG, normal

B, S, T, H, E = 2, 4, 6, 3, 8


SELF = {"q": normal(B, S, H * E), "k": normal(B, S, H * E), "v": normal(B, S, H * E)}
CROSS = {"q": SELF["q"], "k": normal(B, T, H * E), "v": normal(B, T, H * E)}
LENGTHS = np.array([4, 2], np.int32)
BY_KEY = np.array([[1, 1, 1, 0, 1, 1], [1, 0, 0, 1, 0, 0]], np.int32)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("said", [{}, {"scale": 0.3}, {"unidirectional": 1}])
@pytest.mark.parametrize("inputs", [SELF, CROSS])
def test_multi_head_attention(inputs: dict[str, np.ndarray], said: dict[str, Any]) -> None:
    if inputs is CROSS and "unidirectional" in said:
        pytest.skip("the kernel counts the keys from the front there")
    check_microsoft("MultiHeadAttention", inputs, num_heads=H, **said)


def test_multi_head_attention_with_a_bias_and_presents() -> None:
    constants = {"b": normal(3 * H * E)}
    check_microsoft("MultiHeadAttention", SELF, constants, outputs=("y", "pk", "pv"), num_heads=H)


@pytest.mark.parametrize("mask", [np.array([6, 2], np.int32), BY_KEY])
def test_multi_head_attention_with_masked_keys(mask: np.ndarray) -> None:
    check_microsoft("MultiHeadAttention", CROSS | {"m": mask}, order=["q", "k", "v", "", "m"], num_heads=H)


@pytest.mark.parametrize("shape", [(B, H, S, T), (1, H, S, T), (1, 1, S, T), (B, 1, S, T)])
def test_multi_head_attention_with_a_bias_of_its_scores(shape: tuple[int, ...]) -> None:
    inputs = CROSS | {"m": BY_KEY, "a": normal(*shape)}
    check_microsoft("MultiHeadAttention", inputs, order=["q", "k", "v", "", "m", "a"], num_heads=H)


@pytest.mark.parametrize("said", [{}, {"unidirectional": 1}])
def test_multi_head_attention_behind_a_past(said: dict[str, Any]) -> None:
    inputs = SELF | {"pk": normal(B, H, 5, E), "pv": normal(B, H, 5, E)}
    order = ["q", "k", "v", "", "", "", "pk", "pv"]
    check_microsoft("MultiHeadAttention", inputs, order=order, outputs=("y", "nk", "nv"), num_heads=H, **said)


def test_multi_head_attention_packed() -> None:
    """ONNX Runtime computes it on other devices: the same, packed and apart, is held against each other."""
    packed = {"q": np.stack([SELF[n].reshape(B, S, H, E) for n in "qkv"], 3)}
    np.testing.assert_allclose(result(packed), result(SELF), rtol=1e-5, atol=1e-6)
    packed = {"q": CROSS["q"], "k": np.stack([CROSS[n].reshape(B, T, H, E) for n in "kv"], 3)}
    np.testing.assert_allclose(result(packed), result(CROSS), rtol=1e-5, atol=1e-6)


def result(inputs: dict[str, np.ndarray]) -> np.ndarray:
    proto = microsoft_model("MultiHeadAttention", inputs, {}, [*inputs], num_heads=H)
    converted = onnx_to_coreml(
        OnnxModel(ir.from_proto(proto), name="mha"), "mlprogram", precision="fp32", target="iOS17"
    )
    with session(converted) as running:
        return np.asarray(next(iter(running.run(inputs).values())))


MASKS = [
    None,
    LENGTHS,
    np.array([4, 3, 1, 0], np.int32),
    BY_KEY[:, :S],
    RNG.integers(0, 2, (B, S, S)).astype(np.int32),
]


@pytest.mark.sweep(2)
@pytest.mark.parametrize("said", [{}, {"unidirectional": 1}, {"scale": 0.1, "mask_filter_value": -500.0}])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: np.ndarray | None, said: dict[str, Any]) -> None:
    inputs = {"x": normal(B, S, 10), **({} if mask is None else {"m": mask})}
    constants = {"w": normal(10, 3 * H * E), "b": normal(3 * H * E)}
    order = ["x", "w", "b", *(["m"] if mask is not None else [])]
    check_microsoft("Attention", inputs, constants, order, num_heads=H, targets=PROGRAMS, half=2e-2, **said)


@pytest.mark.parametrize("said", [{}, {"unidirectional": 1}])
def test_attention_behind_a_past(said: dict[str, Any]) -> None:
    inputs = {"x": normal(B, S, 10), "p": normal(2, B, H, 5, E)}
    constants = {"w": normal(10, 3 * H * E), "b": normal(3 * H * E)}
    check_microsoft(
        "Attention", inputs, constants, ["x", "w", "b", "", "p"], outputs=("y", "n"), num_heads=H, targets=PROGRAMS,
        half=2e-2, **said,
    )  # fmt: skip


def test_attention_whose_values_are_wider() -> None:
    constants = {"w": normal(10, 2 * H * E + H * 4), "b": normal(2 * H * E + H * 4)}
    sizes = [H * E, H * E, H * 4]
    check_microsoft(
        "Attention",
        {"x": normal(B, S, 10)},
        constants,
        ["x", "w", "b"],
        num_heads=H,
        qkv_hidden_sizes=sizes,
        half=2e-2,
    )


ROTARY = {"cos": np.cos(normal(20, E // 2)), "sin": np.sin(normal(20, E // 2))}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("places", [np.array([3]), np.array([[0, 1, 2, 3], [7, 5, 19, 0]])])
@pytest.mark.parametrize("flat", [False, True])
def test_rotary_embedding(flat: bool, places: np.ndarray, interleaved: int) -> None:
    x = normal(B, S, H * E) if flat else normal(B, H, S, E)
    check_microsoft("RotaryEmbedding", {"x": x, "p": places}, ROTARY, interleaved=interleaved)


def test_rotary_embedding_of_a_part() -> None:
    half = {n: a[:, : E // 4] for n, a in ROTARY.items()}
    said: dict[str, Any] = {"num_heads": H, "rotary_embedding_dim": E // 2}
    check_microsoft("RotaryEmbedding", {"x": normal(B, S, H * E), "p": np.array([2])}, half, **said)


W = 16
"""The width of a head: the kernel turns no other."""
GROUPED = {"q": normal(B, S, 6 * W), "k": normal(B, S, 2 * W), "v": normal(B, S, 2 * W)}
PAST = {"pk": normal(B, 2, 5, W), "pv": normal(B, 2, 5, W)}
WAVES = {"cos": np.cos(normal(20, W // 2)), "sin": np.sin(normal(20, W // 2))}
HEADS = {"num_heads": 6, "kv_num_heads": 2}


def grouped(
    inputs: dict[str, np.ndarray], last: list[int], total: int, rest: list[str] | None = None, **said: Any
) -> None:
    packed = "k" not in inputs
    order = [
        "q",
        *(["", ""] if packed else ["k", "v"]),
        *(["pk", "pv"] if "pk" in inputs else ["", ""]),
        "last",
        "total",
    ]
    constants: dict[str, Any] = {"total": np.array(total, np.int32)}
    if rest:
        constants |= {n: WAVES[n] for n in rest}
    fed = inputs | {"last": np.array(last, np.int32)}
    check_microsoft(
        "GroupQueryAttention", fed, constants, [*order, *(rest or [])], outputs=("y", "nk", "nv"), targets=PROGRAMS,
        **HEADS, **said,
    )  # fmt: skip


@pytest.mark.parametrize("said", [{}, {"scale": 0.2}, {"softcap": 2.0}, {"local_window_size": 2}])
def test_group_query_attention(said: dict[str, Any]) -> None:
    grouped(GROUPED, [S - 1] * B, S, **said)


@pytest.mark.thorough
@pytest.mark.parametrize("said", [{}, {"local_window_size": 3}])
def test_group_query_attention_behind_a_past(said: dict[str, Any]) -> None:
    one = {n: a[:, :1] for n, a in GROUPED.items()}
    grouped(one | PAST, [5] * B, 6, **said)
    single = {n: a[:1] for n, a in (GROUPED | PAST).items()}
    grouped(single, [5 + S - 1], 5 + S, **said)


def test_a_shorter_sequence_goes_on_behind_its_own_end() -> None:
    """What the kernel leaves behind that end is any number: the attention is compared."""
    grouped({n: a[:, :1] for n, a in GROUPED.items()} | PAST, [5, 3], 6, compared=1)


@pytest.mark.thorough
@pytest.mark.parametrize("interleaved", [0, 1])
def test_group_query_attention_turns_what_it_reads(interleaved: int) -> None:
    said = {"do_rotary": 1, "rotary_interleaved": interleaved}
    grouped(GROUPED, [S - 1] * B, S, ["cos", "sin"], **said)
    grouped({n: a[:, :1] for n, a in GROUPED.items()} | PAST, [5] * B, 6, ["cos", "sin"], **said)


def test_group_query_attention_packed() -> None:
    grouped({"q": np.concatenate([*GROUPED.values()], 2)}, [S - 1] * B, S)


def test_what_only_other_devices_compute_is_refused_by_name() -> None:
    proto = microsoft_model("MultiHeadAttention", SELF | {"n": np.array([3], np.int32)}, {},
                            ["q", "k", "v", "", "", "", "", "", "n"], num_heads=H)  # fmt: skip
    with pytest.raises(ConversionError, match="past_sequence_length"):
        onnx_to_coreml(OnnxModel(ir.from_proto(proto), name="mha"), "mlprogram")
