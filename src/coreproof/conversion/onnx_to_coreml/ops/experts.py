"""Mixtures of experts as ONNX Runtime writes them (com.microsoft): each token goes through the experts that its scores choose."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import float_name
from coreproof.conversion.onnx_to_coreml.ops.quantized_forms import MICROSOFT
from coreproof.conversion.onnx_to_coreml.packed import contiguous, moved, pack, packed_array
from coreproof.model.onnx.packed_weights import unpacked


@lowering("MoE", domain=MICROSOFT, error="linear", word="linear")
def moe(
    ctx: Context,
    x: Operand,
    router_probs: Operand,
    fc1: Operand,
    fc1_bias: Operand | None,
    fc2: Operand,
    fc2_bias: Operand | None = None,
    fc3: Operand | None = None,
    fc3_bias: Operand | None = None,
    *,
    k: int = 1,
    activation_type: str = "relu",
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    normalize_routing_weights: int = 0,
    swiglu_fusion: int = 0,
    swiglu_limit: float | None = None,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
) -> Result:
    """All experts compute, and those that a token does not choose count nothing: Core ML has no way around them."""
    if use_sparse_mixer or swiglu_limit_after_activation:
        raise ctx.refuse("a sparse mixer, or a limit behind the gate", "experts that are chosen by their scores")
    weights = [None if w is None else np.asarray(ctx.constant(w, "the experts' weights")) for w in (fc1, fc2, fc3)]
    layers = [
        None if w is None else _layer(ctx, moved(ctx.floats(w), _by_columns), bias)
        for w, bias in zip(weights, (fc1_bias, fc2_bias, fc3_bias), strict=True)
    ]
    gate = _Gate(activation_type, activation_alpha, activation_beta, swiglu_fusion, swiglu_limit)
    return _mixed(ctx, x, _chosen(ctx, router_probs, k, normalize_routing_weights), layers, gate)


@lowering("QMoE", domain=MICROSOFT, error="linear", word="linear")
def q_moe(
    ctx: Context,
    x: Operand,
    router_probs: Operand,
    fc1: Operand,
    fc1_scales: Operand | None,
    fc1_bias: Operand | None,
    fc2: Operand,
    fc2_scales: Operand | None,
    fc2_bias: Operand | None = None,
    fc3: Operand | None = None,
    fc3_scales: Operand | None = None,
    fc3_bias: Operand | None = None,
    fc1_zero_points: Operand | None = None,
    fc2_zero_points: Operand | None = None,
    fc3_zero_points: Operand | None = None,
    router_weights: Operand | None = None,
    *,
    k: int = 1,
    expert_weight_bits: int = 4,
    fc1_expert_weight_bits: int | None = None,
    fc2_expert_weight_bits: int | None = None,
    fc3_expert_weight_bits: int | None = None,
    block_size: int = 0,
    quant_type: str = "int",
    weights_prepacked: int = 0,
    accuracy_level: int = 0,
    activation_type: str = "relu",
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    normalize_routing_weights: int = 0,
    swiglu_fusion: int = 0,
    swiglu_limit: float | None = None,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
) -> Result:
    """The same with weights of few bits, in blocks along what is read: (number - zero point) * scale."""
    if use_sparse_mixer or swiglu_limit_after_activation or router_weights is not None:
        raise ctx.refuse(
            "a sparse mixer, a limit behind the gate, or weights beside the scores", "experts by their scores"
        )
    if quant_type != "int" or weights_prepacked > 0:
        raise ctx.refuse(f"weights of the kind {quant_type!r}, or packed for a device", "plain integers")
    given = (
        (fc1, fc1_scales, fc1_zero_points, fc1_bias, fc1_expert_weight_bits),
        (fc2, fc2_scales, fc2_zero_points, fc2_bias, fc2_expert_weight_bits),
        (fc3, fc3_scales, fc3_zero_points, fc3_bias, fc3_expert_weight_bits),
    )
    layers: list[_Layer | None] = []
    for weight, scales, zeros, bias, bits in given:
        if weight is None:
            layers.append(None)
            continue
        if scales is None:
            raise ctx.refuse("weights without scales", "scales for each of them")
        held = [
            None if each is None else np.asarray(ctx.constant(each, "the experts' weights"))
            for each in (weight, scales, zeros)
        ]
        array = _dequantised(ctx, held, bits or expert_weight_bits)
        layers.append(_layer(ctx, contiguous(moved(array, _by_columns)), bias))
    gate = _Gate(activation_type, activation_alpha, activation_beta, swiglu_fusion, swiglu_limit)
    return _mixed(ctx, x, _chosen(ctx, router_probs, k, normalize_routing_weights), layers, gate)


_Layer = tuple[Array, Array | None]
"""Weights [experts, read, made], and a bias [experts, 1, made]."""


class _Gate:
    """What stands between both layers."""

    def __init__(self, kind: str, alpha: float, beta: float, fusion: int, limit: float | None) -> None:
        self.kind, self.alpha, self.beta, self.fusion, self.limit = kind, alpha, beta, fusion, limit


def _by_columns(weight: Array) -> Array:
    return np.swapaxes(weight, 1, 2)


def _layer(ctx: Context, weight: Array, bias: Operand | None) -> _Layer:
    if bias is None:
        return weight, None
    return weight, ctx.floats(np.asarray(ctx.constant(bias, "the experts' biases"))[:, None, :])


def _dequantised(ctx: Context, held: list[Array | None], bits: int) -> Array:
    weight, scales, zeros = held
    assert weight is not None
    assert scales is not None
    if bits not in (2, 4, 8):
        raise ctx.refuse(f"weights of {bits} bits", "2, 4 or 8")
    experts, rows = weight.shape[:2]
    numbers = unpacked(weight, bits).reshape(experts, rows, -1).astype(np.uint8)
    scale = scales.astype(np.float64).reshape(experts, rows, -1)
    blocks = scale.shape[2]
    middle = np.full(scale.shape, 1 << (bits - 1), np.uint8)
    if zeros is not None:
        # packed along the blocks, or along the rows where each row is one block
        packed_along = (experts, rows, -1) if zeros.ndim == 3 else (experts, 1, -1)
        points = unpacked(zeros, bits).reshape(packed_along)
        middle = (points[:, :, :blocks] if zeros.ndim == 3 else points[:, 0, :rows, None]).astype(np.uint8)
    length = numbers.shape[2] // blocks
    packed = pack(numbers, scale, middle, axis=2, block_size=length, bits=bits)
    if packed is not None:
        return packed_array(packed, ctx.dtype)
    spread = [np.repeat(each.astype(np.float64), length, 2) for each in (middle, scale)]
    return ctx.floats((numbers - spread[0]) * spread[1])


def _chosen(ctx: Context, scores: Operand, k: int, normalized: int) -> Operand:
    """How much each expert counts for each token, [experts, tokens, 1]: the softmax of the scores, of the k largest alone."""
    mb = ctx.mb
    experts = int(ctx.shape(scores)[-1])
    shares, places = several(mb.topk(x=mb.softmax(x=scores, axis=-1), k=k, axis=-1, ascending=False))
    if normalized:
        shares = mb.real_div(x=shares, y=mb.reduce_sum(x=shares, axes=[-1], keep_dims=True))
    at = mb.equal(x=mb.expand_dims(x=places, axes=[-1]), y=np.arange(experts, dtype=np.int32).reshape(1, 1, -1))
    counted = mb.mul(x=mb.cast(x=at, dtype=float_name(ctx)), y=mb.expand_dims(x=shares, axes=[-1]))
    total = mb.reduce_sum(x=counted, axes=[1], keep_dims=False)
    return mb.expand_dims(x=mb.transpose(x=total, perm=[1, 0]), axes=[-1])


def _mixed(ctx: Context, x: Operand, shares: Operand, layers: list[_Layer | None], gate: _Gate) -> Operand:
    mb = ctx.mb
    first, second, third = layers
    assert first is not None
    assert second is not None
    width = int(ctx.shape(x)[-1])
    tokens = mb.reshape(x=x, shape=np.array([1, -1, width], np.int32))
    hidden = _gated(ctx, _through(ctx, tokens, first), None if third is None else _through(ctx, tokens, third), gate)
    made = mb.reduce_sum(x=mb.mul(x=_through(ctx, hidden, second), y=shares), axes=[0], keep_dims=False)
    return made if ctx.rank(x) == 2 else mb.reshape(x=made, shape=mb.shape(x=x))


def _through(ctx: Context, x: Operand, layer: _Layer) -> Operand:
    weight, bias = layer
    made = ctx.mb.matmul(x=x, y=weight)
    return made if bias is None else ctx.mb.add(x=made, y=bias)


def _gated(ctx: Context, made: Operand, beside: Operand | None, gate: _Gate) -> Operand:
    mb = ctx.mb
    opened: Operand
    if gate.kind == "swiglu":
        if gate.fusion and beside is None:
            made, beside = _halves(ctx, made, interleaved=gate.fusion == 1)
        if beside is None:
            raise ctx.refuse("swiglu without what it is multiplied by", "fc3, or both in fc1 (swiglu_fusion)")
        if gate.limit is not None:
            made = mb.minimum(x=made, y=ctx.scalar(gate.limit))
            beside = mb.clip(x=beside, alpha=ctx.scalar(-gate.limit), beta=ctx.scalar(gate.limit))
        opened = mb.mul(x=made, y=mb.sigmoid(x=mb.mul(x=made, y=ctx.scalar(gate.alpha))))
        return mb.mul(x=opened, y=mb.add(x=beside, y=ctx.scalar(gate.beta)))
    if gate.kind == "relu":
        opened = mb.relu(x=made)
    elif gate.kind == "gelu":
        opened = mb.gelu(x=made, mode="TANH_APPROXIMATION")
    elif gate.kind == "silu":
        opened = mb.silu(x=made)
    elif gate.kind == "identity":
        opened = made
    else:
        raise ctx.refuse(f"the activation {gate.kind!r}", "relu, gelu, silu, swiglu or identity")
    return opened if beside is None else mb.mul(x=opened, y=beside)


def _halves(ctx: Context, both: Operand, *, interleaved: bool) -> tuple[Operand, Operand]:
    width = int(ctx.shape(both)[-1])
    places = [np.arange(0, width, 2), np.arange(1, width, 2)] if interleaved else np.split(np.arange(width), 2)
    first, second = (ctx.mb.gather(x=both, indices=at.astype(np.int32), axis=2) for at in places)
    return first, second
