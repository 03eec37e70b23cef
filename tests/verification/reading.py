"""Modules that read Python values out of their tensors; here, as pytest rewrites the asserts of a test's own file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Forward = Callable[..., Any]


def numpy_within(y: Any, x: Any) -> Any:
    return y * torch.from_numpy(np.sqrt(np.abs(y.detach().numpy())))


def into_an_array(y: Any, x: Any) -> Any:
    return y * torch.as_tensor(np.sqrt(np.abs(np.asarray(x))))


def truth_value(y: Any, x: Any) -> Any:
    return y * bool(x.sum() > 0)


def whole_number(y: Any, x: Any) -> Any:
    return y * int(10 * x.max())


def comprehension(y: Any, x: Any) -> Any:
    return y * torch.stack([torch.tensor(float(v)) for v in x[0]])


def checked(y: Any, x: Any) -> Any:
    assert (x > -100).all()
    return y


def formatted(y: Any, x: Any) -> Any:
    said = f"the mean is {x.mean():.3f}"
    return y if said else -y


def helper(x: Any) -> float:
    return float(x.abs().max())


READ: dict[str, Forward] = {
    "float": lambda y, x: y / float(y.abs().max()),
    "item": lambda y, x: y / y.abs().max().item(),
    "in a function": lambda y, x: y / helper(x),
    "numpy": numpy_within,
    "an array": into_an_array,
    "bool": truth_value,
    "int": whole_number,
    "tolist": lambda y, x: y * torch.tensor(x.mean(0).tolist()),
    "a new tensor": lambda y, x: y * torch.tensor(x.max().item()),
    "comprehension": comprehension,
    "how many": lambda y, x: y * float(x.nonzero().size(0)),
    "assert": checked,
    "text": formatted,
    "data": lambda y, x: y * x.detach().abs().max().data,
}
"""What PyTorch's exporter follows, some of it by its second way alone."""


def two_ways(y: Any, x: Any) -> Any:
    return y if x.sum() > 0 else -y


def close(y: Any, x: Any) -> Any:
    return x if torch.allclose(x, torch.zeros_like(x)) else y


def checked_with_a_word(y: Any, x: Any) -> Any:
    assert x.max() < 100, f"too large: {x.max()}"
    return y


def tight(y: Any, x: Any) -> Any:
    """It takes hardly anything that is drawn."""
    assert x.max() < 1.0, f"too large: {x.max()}"
    return y


def within_limits(y: Any, x: Any) -> Any:
    if x.abs().max() > 4:
        raise ValueError("too large")
    return y


def raising(y: Any, x: Any) -> Any:
    if not (x.max() < 100):
        raise ValueError("too large")
    return y


def reported(y: Any, x: Any) -> Any:
    if torch.isnan(x).any():
        print("NaN")
        logging.getLogger("net").warning("%s", float(x.mean()))
    torch._assert((x > -100).all(), "too small")
    return y


def read_before(y: Any, x: Any) -> Any:
    most = x.abs().max().item()
    assert most < 500, f"too large: {most}"
    return y


def read_in_steps(y: Any, x: Any) -> Any:
    least, most = float(x.min()), x.detach().numpy().max()
    width = most - least
    if x is not y and width > 500:
        raise ValueError(f"too wide: {width}")
    print(width)
    return y


CHECKED: dict[str, tuple[Forward, str]] = {
    "assert": (checked_with_a_word, "assert x.max() < 100"),
    "raise": (raising, "if not (x.max() < 100):"),
    "report": (reported, "if torch.isnan(x).any():"),
    "read before": (read_before, "most = x.abs().max().item()"),
    "read in steps": (read_in_steps, "least, most = float(x.min()), x.detach().numpy().max()"),
}
"""Lines on which no number hangs, and that PyTorch's exporter does not follow."""


def caught(y: Any, x: Any) -> Any:
    try:
        assert x.max() < 1, f"too large: {x.max()}"
    except AssertionError:
        return -y
    return y


def gone_on(y: Any, x: Any) -> Any:
    """No call fails here, but PyTorch's exporter does, whose error is caught."""
    try:
        scale = float(x.sum())
    except Exception:
        scale = 1.0
    return y * scale


def within(x: Any) -> None:
    if x.max() > 1:
        raise ValueError("too large")


def caught_outside(y: Any, x: Any) -> Any:
    try:
        within(x)
    except ValueError:
        return -y
    return y


def counted(y: Any, x: Any) -> Any:
    assert (n := int(10 * x.max())) < 100, f"too large: {n}"  # noqa: RUF018 - users do
    return y * n


def read_and_used(y: Any, x: Any) -> Any:
    most = x.abs().max().item()
    assert most < 500, f"too large: {most}"
    return y * round(most)


def read_and_decided(y: Any, x: Any) -> Any:
    most = x.abs().max().item()
    small = most < 1
    if small:
        y = -y
    return y


def read_and_caught(y: Any, x: Any) -> Any:
    most = x.abs().max().item()
    try:
        assert most < 1, f"too large: {most}"
    except AssertionError:
        return -y
    return y


def read_within(y: Any, x: Any) -> Any:
    most = x.abs().max().item()
    assert most < 500, f"too large: {most}"

    def scaled(z: Any) -> Any:
        return z * int(most)

    return scaled(y)


REFUSED: dict[str, tuple[Forward, str]] = {
    "if": (two_ways, "if x.sum() > 0"),
    "allclose": (close, "if torch.allclose(x"),
    "caught": (caught, "assert x.max() < 1"),
    "gone on": (gone_on, "scale = float(x.sum())"),
    "caught outside": (caught_outside, "if x.max() > 1:"),
    "read and used": (read_and_used, "most = x.abs().max().item()"),
    "read and decided": (read_and_decided, "most = x.abs().max().item()"),
    "read and caught": (read_and_caught, "most = x.abs().max().item()"),
    "read within": (read_within, "most = x.abs().max().item()"),
    "kept": (counted, "assert (n := int(10 * x.max())) < 100"),
}


def rounded(y: Any, x: Any) -> Any:
    return y / round(x.abs().max().item(), 1)


class Reads(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, then: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)
        self.then = then

    def forward(self, x: Any) -> Any:
        return self.then(self.linear(x), x)


class Repeated(torch.nn.Module):
    def forward(self, x: Any, n: Any) -> Any:
        for _ in range(int(n)):
            x = x + torch.tanh(x)
        return x
