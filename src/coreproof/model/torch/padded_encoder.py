"""What PyTorch's encoder leaves where a sequence is padded: zeros, but not while it is traced.

``nn.TransformerEncoder`` in evaluation mode takes out what ``src_key_padding_mask`` hides, runs its layers over what is left and
puts zeros in the gaps, before its last normalisation. It does so where the padding stands behind each sequence; else, and in a
trace, its layers compute something of the padding too, and NaN of a sequence that is all padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    import torch


@contextmanager
def padding_emptied() -> Iterator[None]:
    """While PyTorch traces, its encoder puts zeros where it would put them without."""
    import torch

    encoder = torch.nn.TransformerEncoder
    own = encoder.forward

    def forward(
        self: torch.nn.TransformerEncoder,
        src: torch.Tensor,
        mask: torch.Tensor | None = None,
        src_key_padding_mask: torch.Tensor | None = None,
        is_causal: bool | None = None,
    ) -> torch.Tensor:
        padding = src_key_padding_mask
        if padding is None or mask is not None or not _takes_out(self, src):
            return own(self, src, mask, padding, is_causal)
        # the zeros come before the last normalisation
        norm, self.norm, self.use_nested_tensor = self.norm, None, False
        try:
            made = own(self, src, mask, padding, is_causal)
        finally:
            self.norm, self.use_nested_tensor = norm, True
        hidden = padding != 0
        if self.mask_check:
            # the last place that is read is as far on as many are read
            read = (~hidden).long()
            last = (read * torch.arange(1, read.shape[1] + 1, device=read.device)).amax(1)
            hidden = hidden & (last == read.sum(1)).all()
        made = torch.where(hidden.unsqueeze(-1), torch.zeros_like(made), made)
        return made if norm is None else norm(made)

    with patch.object(encoder, "forward", forward):
        yield


def _takes_out(encoder: torch.nn.TransformerEncoder, src: torch.Tensor) -> bool:
    import torch

    return (
        src.dim() == 3
        and bool(getattr(encoder, "use_nested_tensor", False))
        and not encoder.layers[0].training
        and torch.backends.mha.get_fastpath_enabled()
    )
