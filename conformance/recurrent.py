"""A small recurrent network for the judges: a GRU that walks through its rows one by one, as PyTorch's own cells do.

PyTorch's ``nn.GRU`` and ``nn.LSTM`` are exported as one operator each, which is refused; a loop over ``nn.GRUCell`` is
exported as the arithmetic of every step, with the same weights in all of them.
"""

from __future__ import annotations

from typing import Any

LENGTH, WIDTH, CLASSES = 6, 32, 10


def gru() -> Any:
    """Two layers of gated cells over six rows."""
    import torch
    from torch import nn

    class Recurrent(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.ModuleList(nn.GRUCell(WIDTH, WIDTH) for _ in range(2))
            self.head = nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Any) -> Any:
            for cell in self.cells:
                state, states = x.new_zeros(x.shape[0], WIDTH), []
                for row in x.unbind(1):
                    state = cell(row, state)
                    states.append(state)
                x = torch.stack(states, 1)
            return self.head(state)

    return Recurrent()


RECURRENT = {"gru": (gru, (LENGTH, WIDTH))}
"""name -> what makes one from PyTorch's seed, and the shape of a sample."""
