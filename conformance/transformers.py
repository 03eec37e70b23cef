"""Five small transformers, of the kinds that people convert: each takes rows of features, or a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

LENGTH, WIDTH, HEADS, CLASSES = 16, 32, 4, 10


def _split(x: Any, heads: int) -> Any:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _joined(x: Any) -> Any:
    return x.transpose(1, 2).flatten(2)


def causal() -> Any:
    """Like GPT: normalised first, masked so that no row sees those behind it, learned places."""
    import torch
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.packed, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any, mask: Any) -> Any:
            q, k, v = (_split(part, HEADS) for part in self.packed(self.first(x)).chunk(3, -1))
            scores = (q @ k.transpose(2, 3)) / math.sqrt(WIDTH / HEADS)
            x = x + self.out(_joined(scores.masked_fill(mask, float("-inf")).softmax(-1) @ v))
            return x + self.narrow(nn.functional.gelu(self.wide(self.second(x)), approximate="tanh"))

    class Causal(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Parameter(0.1 * torch.randn(LENGTH, WIDTH))
            self.blocks = nn.ModuleList(Block() for _ in range(2))
            self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
            self.register_buffer("mask", torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1))

        def forward(self, x: Any) -> Any:
            x = x + self.places
            for block in self.blocks:
                x = block(x, self.mask)
            return self.head(self.last(x)[:, -1])

    return Causal()


def encoder() -> Any:
    """Like BERT: PyTorch's own layer, normalised behind each sum, both directions."""
    from torch import nn

    class Encoder(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, activation="gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.pool, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Any) -> Any:
            return self.head(self.pool(self.layers(x)[:, 0]).tanh())

    return Encoder()


def vision() -> Any:
    """Like ViT: a picture cut into patches by a convolution, a class token in front, fused attention."""
    import torch
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
            self.packed, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.feed = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

        def forward(self, x: Any) -> Any:
            q, k, v = (_split(part, HEADS) for part in self.packed(self.first(x)).chunk(3, -1))
            x = x + self.out(_joined(nn.functional.scaled_dot_product_attention(q, k, v)))
            return x + self.feed(self.second(x))

    class Vision(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, WIDTH, 8, stride=8)
            self.token = nn.Parameter(0.1 * torch.randn(1, 1, WIDTH))
            self.places = nn.Parameter(0.1 * torch.randn(1, 17, WIDTH))
            self.blocks = nn.Sequential(Block(), Block())
            self.last, self.head = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Any) -> Any:
            rows = self.patches(x).flatten(2).transpose(1, 2)
            rows = torch.cat([self.token.expand(rows.shape[0], -1, -1), rows], 1) + self.places
            return self.head(self.last(self.blocks(rows)[:, 0]))

    return Vision()


def _root_mean_square() -> Any:
    import torch
    from torch import nn

    class Norm(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x: Any) -> Any:
            return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))

    return Norm()


def relative() -> Any:
    """Like T5: distances between rows are put into buckets, and each head adds a number a bucket; no scaling, no centring."""
    import torch
    from torch import nn

    def buckets(count: int = 8, most: int = 32) -> Any:
        distance = torch.arange(LENGTH)[None, :] - torch.arange(LENGTH)[:, None]
        far = distance.abs().clamp(min=1)
        exact = count // 2
        log = exact + (torch.log(far / exact) / math.log(most / exact) * (count - exact)).long()
        near = torch.where(distance.abs() < exact, distance.abs(), log.clamp(max=count - 1))
        return near + count * (distance > 0)

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = _root_mean_square(), _root_mean_square()
            self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
            self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH, bias=False), nn.Linear(2 * WIDTH, WIDTH, bias=False)

        def forward(self, x: Any, bias: Any) -> Any:
            y = self.first(x)
            q, k, v = (_split(f(y), HEADS) for f in (self.query, self.key, self.value))
            x = x + self.out(_joined((q @ k.transpose(2, 3) + bias).softmax(-1) @ v))
            return x + self.narrow(self.wide(self.second(x)).relu())

    class Relative(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Embedding(16, HEADS)
            self.register_buffer("buckets", buckets())
            self.blocks = nn.ModuleList(Block() for _ in range(2))
            self.last, self.head = _root_mean_square(), nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Any) -> Any:
            bias = self.bias(self.buckets).permute(2, 0, 1).unsqueeze(0)
            for block in self.blocks:
                x = block(x, bias)
            return self.head(self.last(x).mean(1))

    return Relative()


def rotary() -> Any:
    """Like Llama: turned pairs of features for the place, fewer keys than queries, a gated feed, no biases."""
    import torch
    from torch import nn

    size, groups = WIDTH // HEADS, 2

    def turned(x: Any, cosine: Any, sine: Any) -> Any:
        half = x.shape[-1] // 2
        return x * cosine + torch.cat([-x[..., half:], x[..., :half]], -1) * sine

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = _root_mean_square(), _root_mean_square()
            self.query, self.out = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
            self.key, self.value = (nn.Linear(WIDTH, groups * size, bias=False) for _ in range(2))
            self.gate, self.up = (nn.Linear(WIDTH, 2 * WIDTH, bias=False) for _ in range(2))
            self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)

        def forward(self, x: Any, cosine: Any, sine: Any, mask: Any) -> Any:
            y = self.first(x)
            q = turned(_split(self.query(y), HEADS), cosine, sine)
            k = turned(_split(self.key(y), groups), cosine, sine).repeat_interleave(HEADS // groups, 1)
            v = _split(self.value(y), groups).repeat_interleave(HEADS // groups, 1)
            scores = (q @ k.transpose(2, 3)) / math.sqrt(size) + mask
            x = x + self.out(_joined(scores.softmax(-1) @ v))
            return x + self.down(nn.functional.silu(self.gate(self.second(x))) * self.up(self.second(x)))

    class Rotary(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            rates = 100.0 ** (-torch.arange(0, size, 2) / size)
            angles = torch.outer(torch.arange(LENGTH).float(), rates).repeat(1, 2)
            self.register_buffer("cosine", angles.cos())
            self.register_buffer("sine", angles.sin())
            self.register_buffer("mask", torch.full((LENGTH, LENGTH), torch.finfo(torch.float32).min).triu(1))
            self.blocks = nn.ModuleList(Block() for _ in range(2))
            self.last, self.head = _root_mean_square(), nn.Linear(WIDTH, CLASSES, bias=False)

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x, self.cosine, self.sine, self.mask)
            return self.head(self.last(x)[:, -1])

    return Rotary()


TRANSFORMERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "causal": (causal, (LENGTH, WIDTH)),
    "encoder": (encoder, (LENGTH, WIDTH)),
    "vision": (vision, (3, 32, 32)),
    "relative": (relative, (LENGTH, WIDTH)),
    "rotary": (rotary, (LENGTH, WIDTH)),
}
"""name -> what makes one from PyTorch's seed, and the shape of a sample."""
