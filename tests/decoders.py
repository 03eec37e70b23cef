"""Small networks that remember, for tests: a counter, and a decoder with a cache of keys and values."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn


class Counter(nn.Module):  # type: ignore[misc]
    """2 * total, after total += x; ``turns`` counts the calls in whole numbers."""

    def __init__(self, *, counts: bool = False) -> None:
        super().__init__()
        self.counts = counts
        self.register_buffer("total", torch.zeros(1, 4))
        self.register_buffer("turns", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Any) -> Any:
        self.total.add_(x)
        if self.counts:
            self.turns = self.turns + 1
            return self.total * 2 + self.turns
        return self.total * 2


class Attention(nn.Module):  # type: ignore[misc]
    """Attention over what was seen so far; keys and values are written into their places of two buffers."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        for name in ("k_cache", "v_cache"):
            self.register_buffer(name, torch.zeros(1, heads, length, self.size))

    def forward(self, x: Any, position: Any, mask: Any) -> Any:
        batch, count, width = x.shape
        split = [t.view(batch, count, self.heads, self.size).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)]
        self.k_cache[:, :, position], self.v_cache[:, :, position] = split[1], split[2]
        scores = split[0] @ self.k_cache.transpose(2, 3) / self.size**0.5 + mask
        return self.out((scores.softmax(-1) @ self.v_cache).transpose(1, 2).reshape(batch, count, width))


class Decoder(nn.Module):  # type: ignore[misc]
    """Scores of the next token, of 20; positions say where the tokens stand."""

    def __init__(self, width: int = 16, layers: int = 2, length: int = 8) -> None:
        super().__init__()
        self.length = length
        self.embed, self.head = nn.Embedding(20, width), nn.Linear(width, 20)
        self.layers = nn.ModuleList(Attention(width, 2, length) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

    def forward(self, ids: Any, position: Any) -> Any:
        seen = torch.arange(self.length)[None, :] <= position[:, None]
        mask = torch.where(seen, 0.0, -1e4)
        x = self.embed(ids)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + layer(norm(x), position, mask)
        return self.head(x)


class Growing(nn.Module):  # type: ignore[misc]
    """Attention over a prefix whose length the mask has: the cache is cut where it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.register_buffer("k_cache", torch.zeros(1, 2, 8, 8))
        self.register_buffer("v_cache", torch.zeros(1, 2, 8, 8))

    def forward(self, token: Any, mask: Any) -> Any:
        n = mask.shape[-1]
        q, k, v = [t.view(1, 1, 2, 8).transpose(1, 2) for t in self.qkv(token).chunk(3, -1)]
        self.k_cache[:, :, n - 1 : n] = k
        self.v_cache[:, :, n - 1 : n] = v
        scores = (q @ self.k_cache[:, :, :n].transpose(2, 3) / 8**0.5 + mask).softmax(-1)
        return (scores @ self.v_cache[:, :, :n]).transpose(1, 2).reshape(1, 1, 16)


def decoder(tokens: int = 1, *, seed: int = 0) -> tuple[Any, tuple[Any, Any]]:
    """A decoder, and an example of so many tokens at once."""
    torch.manual_seed(seed)
    return Decoder().eval(), (torch.zeros(1, tokens, dtype=torch.int64), torch.arange(tokens))


def growing() -> tuple[Any, tuple[Any, Any]]:
    """The attention over a growing prefix, with an example of three."""
    torch.manual_seed(2)
    return Growing().eval(), (torch.zeros(1, 1, 16), torch.zeros(1, 1, 3))
