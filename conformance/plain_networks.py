"""Plain networks as people write them: each gives a module, its inputs by name, and the shapes that are free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Made = tuple[nn.Module, dict[str, torch.Tensor], dict[str, list[Any]]]


class Function(nn.Module):
    """Layers, and what is done with them."""

    def __init__(self, layers: dict[str, nn.Module], run: Callable[..., Any], names: tuple[str, ...] = ("x",)) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.run, self.names = run, names

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self.layers, x)


def picture(
    run: Callable[..., Any],
    free: bool = True,
    size: int = 32,
    channels: int = 3,
    any_size: bool = False,
    **layers: nn.Module,
) -> Callable[[], Made]:
    """Of a free batch, or (``any_size``) of free height and width."""

    def make() -> Made:
        shapes = {"x": [(1, 4), channels, size, size]} if free else {}
        shapes = {"x": [1, channels, (16, 48), (16, 48)]} if any_size else shapes
        for layer in layers.values():
            for part in layer.modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
        return Function(layers, run), {"x": torch.randn(1, channels, size, size)}, shapes

    return make


def sequence(run: Callable[..., Any], width: int = 8, **layers: nn.Module) -> Callable[[], Made]:
    def make() -> Made:
        for layer in layers.values():
            for part in layer.modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
        return Function(layers, run), {"x": torch.randn(1, 12, width)}, {"x": [1, (2, 32), width]}

    return make


def _unet(m: Any, x: Any) -> Any:
    a = m["a"](x).relu()
    b = m["b"](F.max_pool2d(a, 2)).relu()
    return m["d"](torch.cat([a, F.interpolate(m["c"](b), scale_factor=2, mode="bilinear")], 1))


def _skip_sized(m: Any, x: Any) -> Any:
    a = m["a"](x)
    b = m["b"](F.avg_pool2d(a, 2))
    return m["c"](a + F.interpolate(b, size=a.shape[2:], mode="nearest"))


def _padded_windows(m: Any, x: Any) -> Any:
    """Windows of a picture of any size, padded to whole ones."""
    b, c, h, w = x.shape
    padded = F.pad(x, (0, -w % 8, 0, -h % 8))
    rows, columns = padded.shape[2] // 8, padded.shape[3] // 8
    cut = padded.view(b, c, rows, 8, columns, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
    whole = m["fc"](cut).view(b, rows, columns, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, rows * 8, columns * 8)
    return whole[:, :, :h, :w]


def _attend_with_bias(m: Any, x: Any) -> Any:
    """Causal attention with ALiBi's slopes and a sliding window, over any length."""
    n = x.shape[1]
    q, k, v = (t.view(1, n, 2, 4).transpose(1, 2) for t in m["qkv"](x).chunk(3, -1))
    apart = torch.arange(n)[None, :] - torch.arange(n)[:, None]
    bias = apart * torch.tensor([0.5, 0.25]).view(2, 1, 1)
    seen = (apart <= 0) & (apart > -5)
    scores = (q @ k.transpose(-1, -2) / 2 + bias).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(1, n, 8)


class Cached(nn.Module):
    """One step of a decoder beside what it has seen: keys and values of any number of steps come in, one more goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v = (t.view(1, 1, 2, 4).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        made = F.scaled_dot_product_attention(q, keys, values)
        return made.transpose(1, 2).reshape(1, 1, 8), keys, values


def _cached() -> Made:
    inputs = {"x": torch.randn(1, 1, 8), "keys": torch.randn(1, 2, 12, 4), "values": torch.randn(1, 2, 12, 4)}
    free: list[Any] = [1, 2, (2, 32), 4]
    return Cached(), inputs, {"keys": free, "values": free}


def _attend(m: Any, x: Any) -> Any:
    q, k, v = m["qkv"](x).chunk(3, -1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _spectrogram(_: Any, x: Any) -> Any:
    return torch.stft(x[:, :, 0].repeat(1, 20), 32, 8, window=torch.hann_window(32), return_complex=True).abs()


def _warp(m: Any, x: Any) -> Any:
    theta = m["fc"](x.mean((2, 3))).view(-1, 2, 3) * 0.1 + torch.eye(2, 3)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def _patches(m: Any, x: Any) -> Any:
    return F.fold(m["fc"](F.unfold(x, 4, stride=4).transpose(1, 2)).transpose(1, 2), (32, 32), 4, stride=4)


def _windows(m: Any, x: Any) -> Any:
    b, c, h, w = x.shape
    cut = x.view(b, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
    return m["fc"](cut).view(b, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def _top(m: Any, x: Any) -> Any:
    return torch.topk(m["fc"](x.mean(1)), 3)


def _capsule(m: Any, x: Any) -> Any:
    u = m["fc"](x).view(x.shape[0], -1, 4, 4)
    norm = (u * u).sum(-1, keepdim=True)
    return u * norm / (1 + norm) / (norm + 1e-6).sqrt()


PLAIN: dict[str, Callable[[], Made]] = {
    "perceptron": sequence(lambda m, x: m["b"](m["a"](x).tanh()), a=nn.Linear(8, 16), b=nn.Linear(16, 4)),
    "lstm": sequence(
        lambda m, x: m["fc"](m["r"](x)[0][:, -1]), r=nn.LSTM(8, 16, batch_first=True), fc=nn.Linear(16, 4)
    ),
    "bilstm": sequence(lambda m, x: m["r"](x), r=nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True)),
    "gru": sequence(lambda m, x: m["r"](x)[0], r=nn.GRU(8, 16, 2, batch_first=True, bidirectional=True)),
    "rnn": sequence(lambda m, x: m["r"](x)[1], r=nn.RNN(8, 16, batch_first=True, nonlinearity="relu")),
    "projected lstm": sequence(lambda m, x: m["r"](x)[0], r=nn.LSTM(8, 16, batch_first=True, proj_size=6)),
    "temporal convolution": sequence(
        lambda m, x: m["c"](F.pad(x.transpose(1, 2), (4, 0))).relu(), c=nn.Conv1d(8, 16, 3, dilation=2)
    ),
    "encoder": sequence(
        lambda m, x: m["e"](x), e=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    ),
    "decoder": sequence(lambda m, x: m["d"](x, x.flip(1)), d=nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)),
    "attention": sequence(lambda m, x: m["a"](x, x, x), a=nn.MultiheadAttention(8, 2, batch_first=True)),
    "causal attention": sequence(_attend, qkv=nn.Linear(8, 24)),
    "spectrogram": sequence(_spectrogram),
    "mixture": sequence(
        lambda m, x: (m["g"](x).softmax(-1).unsqueeze(-1) * m["e"](x).view(*x.shape[:2], 4, 8)).sum(2),
        g=nn.Linear(8, 4),
        e=nn.Linear(8, 32),
    ),
    "scores": sequence(_top, fc=nn.Linear(8, 10)),
    "normalised": sequence(lambda m, x: F.normalize(m["n"](x), dim=-1) @ x.transpose(1, 2), n=nn.RMSNorm(8)),
    "running sum": sequence(lambda m, x: x.cumsum(1) / x.cumprod(1).abs().add(1).cummax(1).values),
    "sorted": sequence(lambda m, x: x.sort(1, descending=True)),
    "capsule": sequence(_capsule, fc=nn.Linear(8, 32)),
    "u-net": picture(
        _unet,
        a=nn.Conv2d(3, 8, 3, padding=1),
        b=nn.Conv2d(8, 8, 3, padding=1),
        c=nn.Conv2d(8, 8, 1),
        d=nn.Conv2d(16, 2, 1),
    ),
    "resized skip": picture(_skip_sized, a=nn.Conv2d(3, 8, 3, padding=1), b=nn.Conv2d(8, 8, 1), c=nn.Conv2d(8, 2, 1)),
    "generator": picture(
        lambda m, x: m["b"](m["n"](m["a"](x)).relu()).tanh(),
        a=nn.ConvTranspose2d(3, 8, 4, 2, 1),
        n=nn.BatchNorm2d(8),
        b=nn.ConvTranspose2d(8, 3, 3, 2, 1, 1),
    ),
    "super-resolution": picture(
        lambda m, x: F.pixel_shuffle(m["a"](x), 2) + F.interpolate(x, scale_factor=2, mode="bicubic"),
        a=nn.Conv2d(3, 12, 3, padding=1),
    ),
    "squeeze": picture(
        lambda m, x: m["a"](x) * m["b"](x.mean((2, 3), keepdim=True)).sigmoid(),
        a=nn.Conv2d(3, 8, 3, padding=1),
        b=nn.Conv2d(3, 8, 1),
    ),
    "depthwise": picture(
        lambda m, x: F.hardswish(m["n"](m["a"](x))), a=nn.Conv2d(3, 12, 3, groups=3, padding=1), n=nn.GroupNorm(4, 12)
    ),
    "style": picture(
        lambda m, x: m["n"](m["a"](F.pad(x, (1, 1, 1, 1), mode="reflect"))),
        a=nn.Conv2d(3, 8, 3),
        n=nn.InstanceNorm2d(8, affine=True),
    ),
    "spatial transformer": picture(_warp, fc=nn.Linear(3, 6)),
    "patches": picture(_patches, fc=nn.Linear(48, 48)),
    "windows": picture(_windows, fc=nn.Linear(3, 3)),
    "adaptive": picture(
        lambda m, x: [F.adaptive_avg_pool2d(x, 7), F.adaptive_max_pool2d(m["a"](x), 5)], a=nn.Conv2d(3, 4, 1)
    ),
    "activations": picture(
        lambda m, x: [
            F.celu(x),
            F.mish(x),
            F.selu(x),
            F.softsign(x),
            F.logsigmoid(x),
            F.hardshrink(x),
            F.glu(m["a"](x), 1),
        ],
        a=nn.Conv2d(3, 4, 1),
    ),
    "volume": picture(
        lambda m, x: m["a"](x.unsqueeze(2).expand(-1, -1, 4, -1, -1)).amax(2), a=nn.Conv3d(3, 4, 3, padding=1)
    ),
    "median": picture(lambda m, x: (x.flatten(2).median(-1).values, x.flatten(1).logcumsumexp(1)), size=8),
    "einsum": picture(lambda m, x: torch.einsum("bchw,bdhw->bcd", x, m["a"](x)) / 32, a=nn.Conv2d(3, 5, 1)),
    "inverse": picture(lambda m, x: torch.linalg.inv(x.mean((2, 3)).view(-1, 1, 3) * torch.eye(3) + torch.eye(3) * 2)),
    "u-net of any size": picture(
        _skip_sized,
        any_size=True,
        a=nn.Conv2d(3, 8, 3, padding=1),
        b=nn.Conv2d(8, 8, 1),
        c=nn.Conv2d(8, 2, 1),
    ),
    "super-resolution of any size": picture(
        lambda m, x: F.pixel_shuffle(m["a"](x), 2) + F.interpolate(x, scale_factor=2, mode="bicubic"),
        any_size=True,
        a=nn.Conv2d(3, 12, 3, padding=1),
    ),
    "scaled by fractions": picture(
        lambda m, x: F.interpolate(F.interpolate(m["a"](x), scale_factor=1.5, mode="bilinear"), scale_factor=0.5),
        any_size=True,
        a=nn.Conv2d(3, 4, 1),
    ),
    "pooled from any size": picture(
        lambda m, x: m["fc"](torch.cat([F.adaptive_avg_pool2d(m["a"](x), s).flatten(1) for s in (1, 2, 3)], 1)),
        any_size=True,
        a=nn.Conv2d(3, 4, 3, 2),
        fc=nn.Linear(56, 5),
    ),
    "windows of any size": picture(_padded_windows, any_size=True, fc=nn.Linear(3, 3)),
    "biased attention": sequence(_attend_with_bias, qkv=nn.Linear(8, 24)),
    "cached attention": _cached,
    "scatter": picture(
        lambda m, x: torch.zeros(x.shape[0], 3, 8).index_add(2, torch.arange(32) % 8, x.mean(2)), free=False
    ),
    "masked less": sequence(lambda m, x: m["a"](x) + (1.0 - (x > 0).long()) * -4.0, a=nn.Linear(8, 8)),
    "ceiled pools of any size": picture(
        lambda m, x: F.avg_pool2d(F.max_pool2d(m["a"](x), 3, 2, ceil_mode=True), 3, 2, 1, ceil_mode=True),
        any_size=True,
        a=nn.Conv2d(3, 4, 3, padding=1),
    ),
    "state space": picture(
        lambda m, x: (torch.complex(m["a"](x), x).mul(0.3).exp() * torch.complex(x, x)).cumsum(-1).real,
        free=False,
        a=nn.Conv2d(3, 3, 1),
    ),
}
"""name -> what makes one from PyTorch's seed."""
