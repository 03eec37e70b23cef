"""More plain networks as people write them: they look up, order, route and put back over sizes that are free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from conformance.plain_networks import Made, picture, sequence

MINUS = float("-inf")


def _windows(x: Any, side: int) -> Any:
    """[B, H, W, C] -> [windows, side * side, C]"""
    b, h, w, c = x.shape
    return x.view(b, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, c)


def _shifted_windows(m: Any, x: Any) -> Any:
    """Swin's second block: what was rolled around the ends is hidden from what lies there."""
    side, shift = 4, 2
    b, c, h, w = x.shape
    whole = F.pad(x, (0, -w % side, 0, -h % side)).permute(0, 2, 3, 1)
    tall, wide = whole.shape[1:3]
    region, number = torch.zeros(1, tall, wide, 1), 0
    for rows in (slice(0, -side), slice(-side, -shift), slice(-shift, None)):
        for columns in (slice(0, -side), slice(-side, -shift), slice(-shift, None)):
            region[:, rows, columns] = number
            number += 1
    of = _windows(region, side).squeeze(-1)
    hidden = (of.unsqueeze(1) != of.unsqueeze(2)).float() * -100
    cut = _windows(whole.roll((-shift, -shift), (1, 2)), side)
    q, k, v = m["qkv"](cut).chunk(3, -1)
    scores = (q @ k.transpose(1, 2) / c**0.5).view(b, -1, side**2, side**2) + hidden
    made = (scores.softmax(-1).view(-1, side**2, side**2) @ v).view(b, tall // side, wide // side, side, side, c)
    put = made.permute(0, 1, 3, 2, 4, 5).reshape(b, tall, wide, c).roll((shift, shift), (1, 2))
    return put[:, :h, :w].permute(0, 3, 1, 2)


def _unrolled(m: Any, x: Any) -> Any:
    """Hiera's order of tokens, of which each window is pooled."""
    c, rows, columns = x.shape[1], x.shape[2] // 4, x.shape[3] // 4
    y = x[:, :, : rows * 4, : columns * 4].permute(0, 2, 3, 1)
    y = y.view(-1, rows * 2, 2, columns * 2, 2, c).permute(0, 2, 4, 1, 3, 5).reshape(-1, rows * 2, columns * 2, c)
    y = y.view(-1, rows, 2, columns, 2, c).permute(0, 2, 4, 1, 3, 5).reshape(-1, 16, rows * columns, c)
    return m["fc"](y.amax(1))


def _correlated(m: Any, x: Any) -> Any:
    """RAFT: all pairs of places in a pyramid, looked up around where each has moved to, and brought to full size."""
    a, b = m["f"](x), m["f"](x.flip(-1))
    n, c, h, w = a.shape
    pairs = (a.flatten(2).transpose(1, 2) @ b.flatten(2) / c**0.5).view(n * h * w, 1, h, w)
    start = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")[::-1]).float()[None]
    near = torch.linspace(-1, 1, 3)
    around = torch.stack(torch.meshgrid(near, near, indexing="ij"), -1)[None]
    now, found = start + m["d"](a), []
    for level, seen in enumerate((pairs, F.avg_pool2d(pairs, 2))):
        at = now.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) / 2**level + around
        grid = 2 * at / torch.tensor([seen.shape[3] - 1, seen.shape[2] - 1]) - 1
        found.append(F.grid_sample(seen, grid, align_corners=True).view(n, h, w, -1))
    shares = m["u"](torch.cat(found, -1).permute(0, 3, 1, 2)).view(n, 1, 9, 2, 2, h, w).softmax(2)
    moved = F.unfold(now - start, 3, padding=1).view(n, 2, 9, 1, 1, h, w)
    return (shares * moved).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(n, 2, h * 2, w * 2)


class Queries(nn.Module):
    """DETR: learned positions of rows and columns, as many as the picture has, and boxes from queries."""

    def __init__(self) -> None:
        super().__init__()
        self.back, self.boxes, self.kinds = nn.Conv2d(3, 8, 3, 4, 1), nn.Linear(8, 4), nn.Linear(8, 5)
        self.rows, self.columns = nn.Parameter(torch.rand(20, 4)), nn.Parameter(torch.rand(20, 4))
        self.body, self.asked = nn.Transformer(8, 2, 1, 1, 16), nn.Parameter(torch.rand(5, 1, 8))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.back(x)
        h, w = seen.shape[-2:]
        places = [self.columns[:w].unsqueeze(0).repeat(h, 1, 1), self.rows[:h].unsqueeze(1).repeat(1, w, 1)]
        tokens = torch.cat(places, -1).flatten(0, 1).unsqueeze(1) + seen.flatten(2).permute(2, 0, 1)
        made = self.body(tokens, self.asked).transpose(0, 1)
        x_mid, y_mid, wide, tall = self.boxes(made).sigmoid().unbind(-1)
        ends = torch.stack([x_mid - wide / 2, y_mid - tall / 2, x_mid + wide / 2, y_mid + tall / 2], -1)
        return ends * torch.tensor([x.shape[3], x.shape[2]] * 2), self.kinds(made).softmax(-1)


def _queries() -> Made:
    return Queries(), {"x": torch.randn(1, 3, 32, 32)}, {"x": [1, 3, (16, 48), (16, 48)]}


def _relative(m: Any, x: Any) -> Any:
    """Conformer's attention: scores by the distance, as many as there are, shifted into their places."""
    b, t, d = x.shape
    apart = torch.arange(t - 1, -t, -1, dtype=torch.float32)[:, None] / 100 ** (torch.arange(0, d, 2) / d)
    q, k, v = (y.unflatten(-1, (2, 4)) for y in m["qkv"](x).chunk(3, -1))
    places = m["p"](torch.stack([apart.sin(), apart.cos()], -1).flatten(1)).view(-1, 2, 4)
    by_place = F.pad(torch.einsum("bthd,phd->bhtp", q, places), (1, 0)).view(b, 2, -1, t)[:, :, 1:].view(b, 2, t, -1)
    scores = (torch.einsum("bthd,bshd->bhts", q, k) + by_place[..., :t]) / 2
    hidden = torch.full((t, t), MINUS).triu(1)
    return torch.einsum("bhts,bshd->bthd", (scores + hidden).softmax(-1), v).reshape(b, t, d)


def _farthest(m: Any, x: Any) -> Any:
    """PointNet++: points that lie farthest apart, and what is largest among the neighbours of each."""
    b, points = torch.arange(x.shape[0]), m["fc"](x)
    chosen = torch.zeros(x.shape[0], 4, dtype=torch.long)
    reach, now = torch.full(x.shape[:2], 1e4), torch.zeros(x.shape[0], dtype=torch.long)
    for turn in range(4):
        chosen[:, turn] = now
        reach = torch.minimum(reach, ((points - points[b, now][:, None]) ** 2).sum(-1))
        now = reach.argmax(-1)
    found = points[b[:, None], chosen]
    near = torch.cdist(found, points).topk(2, -1, largest=False)[1]
    return points[b[:, None, None], near].amax(2)


def _best_path(m: Any, x: Any) -> Any:
    """Viterbi's decoding behind a recurrent network, as of a conditional random field."""
    scores = m["fc"](m["r"](x)[0])
    best, before = scores[:, 0], []
    for step in range(1, x.shape[1]):
        best, place = (best[:, :, None] + m["t"].weight + scores[:, step, None]).max(1)
        before.append(place)
    top, last = best.max(1)
    path = [last]
    for place in reversed(before):
        last = place.gather(1, last[:, None])[:, 0]
        path.append(last)
    return top, torch.stack(path[::-1], 1)


def _decoded() -> Made:
    module, inputs, _ = sequence(_best_path, r=nn.GRU(8, 8, batch_first=True), fc=nn.Linear(8, 4), t=nn.Linear(4, 4))()
    return module, inputs, {}


FURTHER: dict[str, Callable[[], Made]] = {
    "shifted windows of any size": picture(_shifted_windows, any_size=True, qkv=nn.Linear(3, 9)),
    "unrolled tokens of any size": picture(_unrolled, any_size=True, fc=nn.Linear(3, 3)),
    "correlation looked up": picture(
        _correlated,
        any_size=True,
        f=nn.Conv2d(3, 8, 3, 2, 1),
        d=nn.Conv2d(8, 2, 3, padding=1),
        u=nn.Conv2d(18, 36, 3, padding=1),
    ),
    "boxes from queries of any size": _queries,
    "relative attention": sequence(_relative, qkv=nn.Linear(8, 24), p=nn.Linear(8, 8)),
    "farthest points": sequence(_farthest, fc=nn.Linear(8, 3)),
    "best path": _decoded,
}
"""name -> what makes one from PyTorch's seed."""
