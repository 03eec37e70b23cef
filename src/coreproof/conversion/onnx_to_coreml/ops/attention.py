"""Attention as ONNX Runtime's optimiser and its model builder write it (com.microsoft), and rotary embeddings.

All of them come to ``attended``: queries, keys and values by head, and what is added to the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, expanded, float_name, is_known
from coreproof.conversion.onnx_to_coreml.ops.indexing import counted, gather, length_of, part, picked
from coreproof.conversion.onnx_to_coreml.ops.matmul import matmul
from coreproof.conversion.onnx_to_coreml.ops.quantized_forms import MICROSOFT
from coreproof.conversion.onnx_to_coreml.ops.shape import reshape


def attended(
    ctx: Context, q: Operand, k: Operand, v: Operand, scale: float, added: Operand | None = None, softcap: float = 0.0
) -> Operand:
    """softmax(q k^T * scale + added) v of [B, H, S, E], [B, H, T, E] and [B, H, T, F]; Core ML's own operation from iOS 18 on.

    ``softcap`` bounds the scores before anything is added.
    """
    mb, width = ctx.mb, q.shape[-1]
    if ctx.target >= 18 and not softcap and is_known(width):
        own = float(1 / np.sqrt(int(width)))
        # MIL's scaled_dot_product_attention divides by sqrt(E) itself: what is asked for beyond that goes into the queries
        if not np.isclose(scale, own, rtol=1e-6):
            q = mb.mul(x=q, y=ctx.scalar(scale / own))
        mask = {} if added is None else {"attn_mask": added}
        return mb.scaled_dot_product_attention(query=q, key=k, value=v, **mask)
    # the queries are scaled, not the scores: float16 holds their products longer
    scores = mb.matmul(x=mb.mul(x=q, y=ctx.scalar(scale)), y=k, transpose_y=True)
    if softcap:
        # softcap * tanh(scores / softcap), as ContribOperators.md has it: a bound that is smooth
        scores = mb.mul(x=mb.tanh(x=mb.mul(x=scores, y=ctx.scalar(1 / softcap))), y=ctx.scalar(softcap))
    return mb.matmul(x=mb.softmax(x=scores if added is None else mb.add(x=scores, y=added), axis=-1), y=v)


@lowering("Attention", error="linear")
def plain_attention(ctx: Context, q: Operand, k: Operand, v: Operand, *, scale: float | None = None) -> Result:
    """The standard's form of four dimensions with nothing added to the scores; others are its own definition, put in place."""
    return attended(ctx, q, k, v, 1 / float(np.sqrt(int(q.shape[-1]))) if scale is None else scale)


def by_head(ctx: Context, x: Operand, heads: int) -> Operand:
    """[B, S, H * E] as [B, H, S, E]."""
    split = reshape(ctx, x, np.array([0, 0, heads, int(x.shape[2]) // heads], np.int32))
    return ctx.mb.transpose(x=split, perm=[0, 2, 1, 3])


def joined(ctx: Context, x: Operand) -> Operand:
    """[B, H, S, E] as [B, S, H * E]."""
    heads, width = x.shape[1], x.shape[3]
    turned = ctx.mb.transpose(x=x, perm=[0, 2, 1, 3])
    return reshape(ctx, turned, np.array([0, 0, int(heads) * int(width)], np.int32))


def _truths(ctx: Context, operation: str, x: Operand, y: Operand) -> Operand:
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return {"less_equal": x <= y, "less": x < y, "greater": x > y}[operation]
    made: Operand = getattr(ctx.mb, operation)(x=x, y=y)
    return made


@dataclass
class _Scores:
    """What is added to scores [B, H, S, T], as far as it is known: a filter value here, a bias there, and places never seen."""

    ctx: Context
    added: Operand | None = None
    unseen: Operand | None = None

    def add(self, term: Operand) -> None:
        self.added = term if self.added is None else _sum(self.ctx, self.added, term)

    def filter(self, kept: Operand, value: float) -> None:
        """``value`` is added where ``kept`` is false."""
        # minus infinity would leave a row that is filtered whole without a softmax
        value = max(value, float(np.finfo(self.ctx.dtype).min))
        if isinstance(kept, np.ndarray):
            self.add(np.where(kept, 0, value).astype(self.ctx.dtype))
        else:
            # a choice between two numbers would be a number to MIL
            lost = cast(self.ctx, self.ctx.mb.logical_not(x=kept), float_name(self.ctx))
            self.add(self.ctx.mb.mul(x=lost, y=self.ctx.scalar(value)))

    def hide(self, kept: Operand) -> None:
        """Places where ``kept`` is false take no share, whatever else is added."""
        if isinstance(kept, np.ndarray) and isinstance(self.unseen, np.ndarray):
            self.unseen = kept & self.unseen
        else:
            self.unseen = kept if self.unseen is None else self.ctx.mb.logical_and(x=self.unseen, y=kept)

    def total(self) -> Operand | None:
        if self.unseen is None:
            return self.added
        # finite, so that a row of which nothing is seen still has a softmax
        lowest = self.ctx.scalar(float(np.finfo(self.ctx.dtype).min))
        if isinstance(self.unseen, np.ndarray) and isinstance(self.added, np.ndarray | None):
            return np.where(self.unseen, 0 if self.added is None else self.added, lowest).astype(self.ctx.dtype)
        if self.added is None:
            hidden = cast(self.ctx, self.ctx.mb.logical_not(x=self.unseen), float_name(self.ctx))
            return self.ctx.mb.mul(x=hidden, y=lowest)
        return self.ctx.mb.select(cond=self.unseen, a=self.added, b=lowest)


def _causal(ctx: Context, scores: _Scores, q: Operand, k: Operand) -> None:
    """A query sees the keys up to its own place; the queries are the last of the sequence."""
    rows, columns = counted(ctx, q, 2), counted(ctx, k, 2)
    if isinstance(rows, np.ndarray) and isinstance(columns, np.ndarray):
        scores.hide((columns[None] <= rows[:, None] + len(columns) - len(rows))[None, None])
        return
    # of T keys the last S are those of the queries: query i stands at T - S + i
    before = ctx.mb.sub(x=length_of(ctx, k, 2), y=length_of(ctx, q, 2))
    ends = ctx.mb.add(x=rows, y=before)
    kept = ctx.mb.less_equal(x=expanded(ctx, columns, [0]), y=expanded(ctx, ends, [1]))
    scores.hide(ctx.mb.expand_dims(x=kept, axes=[0, 1]))


def _masked(ctx: Context, scores: _Scores, mask: Operand, k: Operand, value: float) -> None:
    """``mask``: how many keys count of each sequence [B]; which do, [B, T]; or which of each query, [B, S, T]."""
    rank = ctx.rank(mask)
    if rank == 1:
        batch = k.shape[0]
        if not (is_known(batch) and is_known(mask.shape[0])) or int(mask.shape[0]) not in (int(batch), 2 * int(batch)):
            raise ctx.refuse(f"a mask of the shape {tuple(mask.shape)}", "[batch], [2 * batch], or a mask by keys")
        count, places = int(batch), expanded(ctx, counted(ctx, k, 2), [0])
        kept = _truths(ctx, "less", places, expanded(ctx, part(ctx, mask, 0, 0, count), [1]))
        scores.filter(expanded(ctx, kept, [1, 2]), value)
        # [2 * batch]: first where each sequence ends, then where it begins, for what is filled up on the left
        if int(mask.shape[0]) == 2 * count:
            first = expanded(ctx, part(ctx, mask, 0, count, 2 * count), [1])
            scores.filter(expanded(ctx, _truths(ctx, "less_equal", first, places), [1, 2]), value)
        return
    if rank not in (2, 3):
        raise ctx.refuse(f"a mask of rank {rank}", "one of rank 1, 2 or 3")
    seen = expanded(ctx, mask, [1, 2] if rank == 2 else [1])
    scores.filter(_truths(ctx, "greater", cast(ctx, seen, "int32"), np.array(0, np.int32)), value)


def _without(ctx: Context, **operands: Operand | None) -> None:
    """Refuses operands of forms that only run on other devices."""
    given = [name for name, operand in operands.items() if operand is not None]
    if given:
        raise ctx.refuse(f"its operands {', '.join(given)}", "the form without them")


@lowering("MultiHeadAttention", domain=MICROSOFT, error="linear")
def multi_head_attention(
    ctx: Context,
    query: Operand,
    key: Operand | None = None,
    value: Operand | None = None,
    bias: Operand | None = None,
    key_padding_mask: Operand | None = None,
    attention_bias: Operand | None = None,
    past_key: Operand | None = None,
    past_value: Operand | None = None,
    past_sequence_length: Operand | None = None,
    cache_indirection: Operand | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> list[Operand]:
    """Output [B, S, H * F], and the keys and values of all places so far, [B, H, T, E].

    Keys and values may come packed behind each other, [B, T, H, 2, E], with the queries in one [B, S, H, 3, E], or by head, as
    those of another sequence that were kept.
    """
    _without(ctx, past_sequence_length=past_sequence_length, cache_indirection=cache_indirection)
    if len(ctx.node.outputs) > 3:
        raise ctx.refuse("its scores are asked for", "the outputs before them")
    q: Operand
    k: Operand
    v: Operand
    if ctx.rank(query) == 5:
        parts = [picked(ctx, query, 3, i) for i in range(3)]
        q, k, v = (ctx.mb.transpose(x=p, perm=[0, 2, 1, 3]) for p in parts)
    else:
        assert key is not None
        own = int(query.shape[2])
        # one bias holds all three: of the queries, then of the keys, then of the values
        q = by_head(ctx, _plus(ctx, query, bias, 0, own), num_heads)
        if ctx.rank(key) == 5:
            k, v = (ctx.mb.transpose(x=picked(ctx, key, 3, i), perm=[0, 2, 1, 3]) for i in range(2))
        elif ctx.rank(key) == 4:
            assert value is not None
            k, v = key, value
        else:
            assert value is not None
            k = by_head(ctx, _plus(ctx, key, bias, own, own + int(key.shape[2])), num_heads)
            begin = own + int(key.shape[2])
            v = by_head(ctx, _plus(ctx, value, bias, begin, begin + int(value.shape[2])), num_heads)
    if past_key is not None and past_value is not None:
        k = ctx.mb.concat(values=[past_key, k], axis=2)
        v = ctx.mb.concat(values=[past_value, v], axis=2)
    added = _added(ctx, q, k, key_padding_mask, mask_filter_value, attention_bias, unidirectional)
    return [joined(ctx, attended(ctx, q, k, v, scale or _usual(q), added)), k, v]


def _added(
    ctx: Context, q: Operand, k: Operand, mask: Operand | None, value: float, bias: Operand | None, unidirectional: int
) -> Operand | None:
    """What is added to the scores: the mask's value, the bias, and for later keys what hides them."""
    scores = _Scores(ctx)
    if mask is not None:
        _masked(ctx, scores, mask, k, value)
    if bias is not None:
        scores.add(bias)
    if unidirectional:
        _causal(ctx, scores, q, k)
    return scores.total()


def _usual(q: Operand) -> float:
    return float(1 / np.sqrt(int(q.shape[-1])))


def _plus(ctx: Context, x: Operand, bias: Operand | None, begin: int, end: int) -> Operand:
    return x if bias is None else ctx.mb.add(x=x, y=part(ctx, bias, 0, begin, end))


@lowering("Attention", domain=MICROSOFT, error="linear")
def attention(
    ctx: Context,
    x: Operand,
    weights: Operand,
    bias: Operand | None = None,
    mask: Operand | None = None,
    past: Operand | None = None,
    attention_bias: Operand | None = None,
    past_sequence_length: Operand | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: Sequence[int] = (),
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> list[Operand]:
    """Queries, keys and values are one product of the input; the past holds keys and values, [2, B, H, P, E]."""
    _without(ctx, past_sequence_length=past_sequence_length)
    if do_rotary or past_present_share_buffer:
        raise ctx.refuse("rotary embeddings, or a buffer that is shared with the past", "the form without them")
    mb = ctx.mb
    # the values may be of another width than queries and keys; where nothing is said the product is cut in three
    sizes = list(qkv_hidden_sizes) or [int(weights.shape[1]) // 3] * 3
    product = matmul(ctx, x, weights)
    product = product if bias is None else mb.add(x=product, y=bias)
    ends = np.cumsum([0, *sizes]).tolist()
    q, *rest = [by_head(ctx, part(ctx, product, 2, ends[i], ends[i + 1]), num_heads) for i in range(3)]
    k, v = rest
    if past is not None:
        k = mb.concat(values=[picked(ctx, past, 0, 0), k], axis=2)
        v = mb.concat(values=[picked(ctx, past, 0, 1), v], axis=2)
    added = _added(ctx, q, k, mask, mask_filter_value, attention_bias, unidirectional)
    made = joined(ctx, attended(ctx, q, k, v, scale or _usual(q), added))
    return [made, mb.stack(values=[k, v], axis=0)] if len(ctx.node.outputs) > 1 else [made]


@lowering("GroupQueryAttention", domain=MICROSOFT, error="linear")
def group_query_attention(
    ctx: Context,
    query: Operand,
    key: Operand | None,
    value: Operand | None,
    past_key: Operand | None,
    past_value: Operand | None,
    seqlens_k: Operand,
    total_sequence_length: Operand,
    cos_cache: Operand | None = None,
    sin_cache: Operand | None = None,
    position_ids: Operand | None = None,
    attention_bias: Operand | None = None,
    head_sink: Operand | None = None,
    k_scale: Operand | None = None,
    v_scale: Operand | None = None,
    *,
    num_heads: int,
    kv_num_heads: int,
    do_rotary: int = 0,
    local_window_size: int = -1,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = 0,
    softcap: float = 0.0,
    qk_output: int = 0,
    **others: object,
) -> list[Operand]:
    """Several queries' heads share one of keys and values; ``seqlens_k`` is the last place of each sequence.

    New keys stand behind those of the past that count: what a shorter sequence holds beyond its own end moves behind them, and is
    seen by none.
    """
    _without(ctx, head_sink=head_sink, k_scale=k_scale, v_scale=v_scale)
    if smooth_softmax > 0 or qk_output:
        raise ctx.refuse("a smooth softmax, or its scores", "the form without them")
    mb, width = ctx.mb, int(query.shape[2]) // (num_heads if key is not None else num_heads + 2 * kv_num_heads)
    if key is None or value is None:
        ends = [0, num_heads * width, (num_heads + kv_num_heads) * width, (num_heads + 2 * kv_num_heads) * width]
        query, key, value = (part(ctx, query, 2, ends[i], ends[i + 1]) for i in range(3))
    q, k, v = by_head(ctx, query, num_heads), by_head(ctx, key, kv_num_heads), by_head(ctx, value, kv_num_heads)
    rows = counted(ctx, q, 2)
    has_past = past_key is not None and not (is_known(past_key.shape[2]) and past_key.shape[2] == 0)
    # [B, 1]: the place of each sequence's first query
    start: Operand = np.zeros((1, 1), np.int32)
    if has_past:
        # seqlens_k is the number of keys less 1 (ContribOperators.md): less the other new ones it is the first of them
        last = seqlens_k.reshape(-1, 1) if isinstance(seqlens_k, np.ndarray) else mb.reshape(x=seqlens_k, shape=[-1, 1])
        start = mb.sub(x=last, y=mb.sub(x=expanded(ctx, length_of(ctx, q, 2), [0]), y=np.int32(1)))
    places = _sum(ctx, start, expanded(ctx, rows, [0]))
    if do_rotary:
        assert cos_cache is not None
        assert sin_cache is not None
        chosen = places if position_ids is None else position_ids
        cos, sin = (expanded(ctx, gather(ctx, cache, chosen, axis=0), [1]) for cache in (cos_cache, sin_cache))
        q, k = (rotated(ctx, x, cos, sin, interleaved=bool(rotary_interleaved)) for x in (q, k))
    if has_past:
        assert past_key is not None
        assert past_value is not None
        k, v = (_appended(ctx, old, new, start) for old, new in ((past_key, k), (past_value, v)))
    columns = expanded(ctx, counted(ctx, k, 2), [0, 1, 2])
    own = expanded(ctx, places, [1, 3])  # [B, 1, S, 1]
    scores = _Scores(ctx)
    if attention_bias is not None:
        scores.add(attention_bias)
    scores.hide(_truths(ctx, "less_equal", columns, own))
    if local_window_size > 0:
        # a window of W is the place itself and the W - 1 before it
        reach = np.array(local_window_size, np.int32)
        first = own - reach if isinstance(own, np.ndarray) else mb.sub(x=own, y=reach)
        scores.hide(_truths(ctx, "greater", columns, first))
    times = num_heads // kv_num_heads
    each_k, each_v = (x if times == 1 else _for_each_query(ctx, x, times) for x in (k, v))
    made = attended(ctx, q, each_k, each_v, scale or _usual(q), scores.total(), softcap)
    return [joined(ctx, made), k, v]


def _sum(ctx: Context, x: Operand, y: Operand) -> Operand:
    return x + y if isinstance(x, np.ndarray) and isinstance(y, np.ndarray) else ctx.mb.add(x=x, y=y)


def _for_each_query(ctx: Context, x: Operand, times: int) -> Operand:
    """[B, K, T, E] as [B, K * times, T, E], each head so many times."""
    mb, heads, width = ctx.mb, int(x.shape[1]), int(x.shape[3])
    if is_known(x.shape[0]) and is_known(x.shape[2]):
        wide = mb.tile(x=mb.expand_dims(x=x, axes=[2]), reps=[1, 1, times, 1, 1])
        return mb.reshape(x=wide, shape=[int(x.shape[0]), heads * times, int(x.shape[2]), width])
    # head h of the queries reads head h // times: each in a row, not all of them over and over
    return mb.gather(x=x, indices=np.repeat(np.arange(heads, dtype=np.int32), times), axis=1)


def _appended(ctx: Context, old: Operand, new: Operand, start: Operand) -> Operand:
    """[B, K, P + S, E]: the new places behind the first ``start`` [B, 1] of the old ones, and the rest of the old behind them."""
    mb = ctx.mb
    both = mb.concat(values=[old, new], axis=2)
    if not (is_known(old.shape[2]) and is_known(new.shape[2])):
        return both  # of sequences that are as long as each other, which free lengths take for granted
    before, count = int(old.shape[2]), int(new.shape[2])
    batch, heads, length, width = ctx.shape(both)
    place = np.broadcast_to(np.arange(length, dtype=np.int32), (batch, length))
    moved = mb.add(x=mb.sub(x=place, y=start), y=np.int32(before))
    is_new = mb.less(x=place, y=mb.add(x=start, y=np.int32(count)))
    source = mb.select(cond=is_new, a=moved, b=np.ascontiguousarray(place - count))
    source = mb.select(cond=mb.less(x=place, y=start), a=np.ascontiguousarray(place), b=source)
    # the same places for every head and every number of a key
    index = mb.tile(x=mb.expand_dims(x=source, axes=[1, 3]), reps=[1, heads, 1, width])
    return mb.gather_along_axis(x=both, indices=index, axis=2)


def rotated(ctx: Context, x: Operand, cos: Operand, sin: Operand, *, interleaved: bool) -> Operand:
    """Pairs of the last axis turned by their angles, which broadcast over [B, H, S, E / 2]; what is beyond them stays.

    A pair is an element of the first half and one of the second, or two neighbours (``interleaved``).
    """
    mb, width, half = ctx.mb, int(x.shape[-1]), int(cos.shape[-1])
    turned = x if 2 * half == width else part(ctx, x, -1, 0, 2 * half)
    first: Operand
    second: Operand
    if interleaved:
        whole = [True] * (ctx.rank(x) - 1)
        nothing = [0] * (ctx.rank(x) - 1)
        first, second = (
            mb.slice_by_index(
                x=turned, begin=[*nothing, at], end=[*nothing, 2 * half], stride=[*[1] * len(nothing), 2],
                begin_mask=[*whole, False], end_mask=[*whole, True],
            )
            for at in (0, 1)
        )  # fmt: skip
    else:
        first, second = part(ctx, turned, -1, 0, half), part(ctx, turned, -1, half, 2 * half)
    left = mb.sub(x=mb.mul(x=first, y=cos), y=mb.mul(x=second, y=sin))
    right = mb.add(x=mb.mul(x=first, y=sin), y=mb.mul(x=second, y=cos))
    if interleaved:
        pairs = mb.stack(values=[left, right], axis=ctx.rank(x))
        made: Operand = reshape(ctx, pairs, np.array([0] * (ctx.rank(x) - 1) + [2 * half], np.int32))
    else:
        made = mb.concat(values=[left, right], axis=-1)
    return made if 2 * half == width else mb.concat(values=[made, part(ctx, x, -1, 2 * half, width)], axis=-1)


@lowering("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(
    ctx: Context,
    x: Operand,
    position_ids: Operand,
    cos_cache: Operand,
    sin_cache: Operand,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Result:
    """Of [B, S, H * E] or [B, H, S, E]; positions are those of each token, or that of the first one."""
    is_flat = ctx.rank(x) == 3
    # the caches hold an angle for each pair of numbers
    width = 2 * int(cos_cache.shape[1])
    heads = num_heads or (int(x.shape[2]) // width if is_flat else 0)
    heads_first = by_head(ctx, x, heads) if is_flat else x
    rows = expanded(ctx, counted(ctx, heads_first, 2), [0])
    is_offset = ctx.rank(position_ids) == 1
    places = _sum(ctx, expanded(ctx, position_ids, [0]), rows) if is_offset else position_ids
    cos, sin = (expanded(ctx, gather(ctx, cache, places, axis=0), [1]) for cache in (cos_cache, sin_cache))
    made = rotated(ctx, heads_first, cos, sin, interleaved=bool(interleaved))
    return joined(ctx, made) if is_flat else made
