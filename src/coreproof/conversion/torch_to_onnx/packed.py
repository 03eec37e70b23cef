"""Recurrent layers over packed sequences of which the last states alone are read.

The tracing exporter hands the lengths of a packed sequence on to its layer by what reads the layer's sequence, and stops where
nothing does: ``_, (hidden, _) = lstm(pack_padded_sequence(x, lengths))``. So that something does, each such sequence is padded
and handed out behind the module's own outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreproof.model.torch.model import import_torch

if TYPE_CHECKING:
    import torch


def has_recurrent_layers(module: torch.nn.Module) -> bool:
    """Whether a module has layers that take packed sequences."""
    return any(isinstance(part, import_torch().nn.RNNBase) for part in module.modules())


def with_padded_sequences(module: torch.nn.Module) -> torch.nn.Module:
    """The module, which also gives the padded sequences of its layers: a pair of its own outputs, and a list of these."""
    import torch
    from torch.nn.modules.module import register_module_forward_hook
    from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

    def forward(*args: object, **kwargs: object) -> tuple[object, list[torch.Tensor]]:
        padded: list[torch.Tensor] = []

        def pad(part: torch.nn.Module, _: object, made: tuple[object, ...]) -> None:
            if isinstance(part, torch.nn.RNNBase) and isinstance(sequence := made[0], PackedSequence):
                padded.append(pad_packed_sequence(sequence)[0])

        handle = register_module_forward_hook(pad)
        try:
            return module(*args, **kwargs), padded
        finally:
            handle.remove()

    whole = torch.nn.Module()
    whole.module, whole.forward = module, forward
    return whole
