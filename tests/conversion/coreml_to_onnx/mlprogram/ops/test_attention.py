"""Attention against its formula in NumPy, with masks of either kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import RNG, normal

family = Family("attention")
Array = np.ndarray
QKV = {"query": normal(2, 3, 4), "key": normal(2, 5, 4), "value": normal(2, 5, 6)}
SEEN = np.tril(np.ones((3, 5), bool), 1)


@family.defines(
    "scaled_dot_product_attention", "query key value attn_mask",
    [
        QKV, {k: 30 * v for k, v in QKV.items()}, {k: v[:, None] for k, v in QKV.items()},
        {"query": normal(1, 2, 2, 3, 4), "key": normal(1, 2, 2, 1, 4), "value": normal(1, 2, 2, 1, 2)},
        QKV | {"attn_mask": SEEN}, QKV | {"attn_mask": RNG.integers(0, 2, (2, 3, 5)) + np.eye(3, 5, dtype=int) > 0},
        QKV | {"attn_mask": normal(3, 5)}, QKV | {"attn_mask": np.where(SEEN, 0, -np.inf).astype(np.float32)},
        QKV | {"attn_mask": normal(2, 1, 5)},
    ],
    within=1e-5, target="iOS18",
)  # fmt: skip
def attention(query: Array, key: Array, value: Array, attn_mask: Array | int = 0) -> Array:
    mask = np.where(attn_mask, 0, -np.inf) if np.asarray(attn_mask).dtype == bool else attn_mask
    scores = query @ key.swapaxes(-2, -1) / np.sqrt(query.shape[-1]) + mask
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ value


@family.each
def test_attention_follows_its_formula(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
