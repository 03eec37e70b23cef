"""Options that mean the same in every verb, and what they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreproof.errors import InputError

if TYPE_CHECKING:
    from coreproof.model.feeding import Feeding

_PANEL = "How a picture is fed (default: what the model carries)"

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A .onnx, .mlpackage, .mlmodel or .pt2 file, torchvision:NAME[?weights=FILE], or module.path:callable.",
        show_default=False,
    ),
]
Trust = Annotated[bool, typer.Option("--trust", help="Allow pickled PyTorch files, which execute code when read.")]
Size = Annotated[
    str | None, typer.Option(help="Width x height of what the network sees: 224 or 320x240.", rich_help_panel=_PANEL)
]
Squash = Annotated[
    bool, typer.Option("--squash", help="Stretch pictures instead of cropping the centre.", rich_help_panel=_PANEL)
]
ResizeTo = Annotated[int | None, typer.Option(help="Shorter side before the centre crop.", rich_help_panel=_PANEL)]
Interpolation = Annotated[
    str | None, typer.Option(help="nearest, bilinear, bicubic or lanczos.", rich_help_panel=_PANEL)
]
Colour = Annotated[str | None, typer.Option(help="RGB, BGR or GRAY.", rich_help_panel=_PANEL)]
Scale = Annotated[
    str | None, typer.Option(help="Factor on the pixels (0-255) before mean and std: 1/255.", rich_help_panel=_PANEL)
]
Mean = Annotated[
    str | None, typer.Option(help="One number, or one a channel: 0.485,0.456,0.406.", rich_help_panel=_PANEL)
]
Std = Annotated[
    str | None, typer.Option(help="One number, or one a channel: 0.229,0.224,0.225.", rich_help_panel=_PANEL)
]


def feeding_from(
    base: Feeding | None,
    *,
    size: str | None = None,
    squash: bool = False,
    resize_to: int | None = None,
    interpolation: str | None = None,
    colour: str | None = None,
    scale: str | None = None,
    mean: str | None = None,
    std: str | None = None,
) -> Feeding | None:
    """``base`` changed by what was given on the command line; None when there is neither."""
    from coreproof.model.feeding import Feeding

    changes: dict[str, Any] = {}
    if size is not None:
        sides = [int(_number(s, "--size")) for s in size.lower().split("x")]
        changes["size"] = (sides[0], sides[-1])
    if squash:
        changes["resize"] = "squash"
    if resize_to is not None:
        changes["resize_to"] = resize_to
    if interpolation is not None:
        changes["interpolation"] = one_of(
            interpolation, ("nearest", "bilinear", "bicubic", "lanczos"), "--interpolation"
        )
    if colour is not None:
        changes["colour"] = one_of(colour.upper(), ("RGB", "BGR", "GRAY"), "--colour")
    if scale is not None:
        changes["scale"] = _number(scale, "--scale")
    for name, text in (("mean", mean), ("std", std)):
        if text is not None:
            changes[name] = tuple(_number(part, f"--{name}") for part in text.split(","))
    if base is None and not changes:
        return None
    return replace(base if base is not None else Feeding(), **changes)


def _number(text: str, option: str) -> float:
    """A number or a fraction ("1/255")."""
    try:
        parts = [float(p) for p in text.split("/")]
        return parts[0] if len(parts) == 1 else parts[0] / parts[1]
    except (ValueError, ZeroDivisionError, IndexError):
        raise InputError(f"{option} takes numbers", found=text) from None


def one_of(value: str, allowed: tuple[str, ...], option: str) -> Any:
    """``value`` if it is allowed, else an InputError that names what is."""
    if value not in allowed:
        raise InputError(f"{option} does not know {value!r}", expected=", ".join(allowed))
    return value


def read_labels(path: Path | None) -> tuple[str, ...] | None:
    """Class labels from a text file, one a line."""
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the label file cannot be read", where=str(path), found=str(error)) from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise InputError("the label file is empty", where=str(path), expected="one label a line")
    return labels
