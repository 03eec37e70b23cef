"""A module as an exported program, by each of the ways that PyTorch's ONNX exporter tries: what it converts has a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

_STRICT = (False, True)
"""The exporter's order (``CAPTURE_STRATEGIES``). The second reads Python's bytecode, and follows ``float(x.max())``, ``.numpy()``
and texts made of tensors, at which the first ends."""


def captured(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> ExportedProgram:
    """The program that ``torch.export`` makes of a call. Raises what the first way said where none succeeds."""
    import torch

    first: Exception | None = None
    for strict in _STRICT:
        try:
            return torch.export.export(module, inputs, strict=strict)
        except Exception as error:  # the exporter runs the user's code and raises what that raises
            first = first or error
    assert first is not None
    raise first
