"""A small recurrent network for the judges: a GRU that walks through its rows one by one.

PyTorch's ``nn.GRU`` and ``nn.LSTM`` are exported as one operator each, which is refused; a loop is exported as the arithmetic
of every step, with the same weights in all of them. The cell is written out because coremltools does not convert
``nn.GRUCell``.
"""

from __future__ import annotations

from typing import Any

LENGTH, WIDTH, CLASSES = 6, 32, 10


def gru() -> Any:
    """Two layers of gated cells over six rows."""
    import torch
    from torch import nn

    class Cell(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.given, self.kept = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 3 * WIDTH)

        def forward(self, row: Any, state: Any) -> Any:
            given, kept = self.given(row).chunk(3, 1), self.kept(state).chunk(3, 1)
            reset, update = (given[0] + kept[0]).sigmoid(), (given[1] + kept[1]).sigmoid()
            fresh = (given[2] + reset * kept[2]).tanh()
            return fresh + update * (state - fresh)

    class Recurrent(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.ModuleList(Cell() for _ in range(2))
            self.head = nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Any) -> Any:
            for cell in self.cells:
                state, states = torch.zeros_like(x[:, 0]), []
                for row in range(LENGTH):
                    state = cell(x[:, row], state)
                    states.append(state)
                x = torch.stack(states, 1)
            return self.head(state)

    return Recurrent()


RECURRENT = {"gru": (gru, (LENGTH, WIDTH))}
"""name -> what makes one from PyTorch's seed, and the shape of a sample."""
