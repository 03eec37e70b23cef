"""Small MIL programs that use lists, with what they answer: each room that lowers or carries lists is held to the same."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = np.arange(1, 9, dtype=np.float32).reshape(4, 2)

WRITTEN = [np.zeros(2), ROWS[2], np.zeros(2), [ROWS[3], -ROWS[0], np.zeros(2), -ROWS[1], ROWS[3]], [2], [5]]
"""What ``written_and_read`` answers to the third and the fourth of ``ROWS``."""


def written_and_read(mb: Any, a: Any, b: Any) -> Any:
    """Two rows [2] at places 0 and 4 of a list of two, which grows with zeros, and what is read of it."""
    fresh = mb.make_list(init_length=2, elem_shape=(2,))
    first = mb.list_write(ls=fresh, index=0, value=a)
    grown = mb.list_write(ls=first, index=4, value=b)
    spread = mb.list_scatter(ls=grown, indices=[2, 1], value=-ROWS[:2])
    lengths = [mb.expand_dims(x=mb.list_length(ls=ls), axes=[0]) for ls in (fresh, spread)]
    reads = [mb.list_read(ls=fresh, index=1), mb.list_read(ls=spread, index=0), mb.list_read(ls=first, index=1)]
    return (*reads, mb.list_gather(ls=spread, indices=[4, 2, 3, 1, 4]), *lengths)


def grown_in_a_loop(mb: Any, a: Any) -> Any:
    """Places 3, 0 and 2 of a list to which each of four turns adds its number times a row [2]."""
    grown = mb.while_loop(
        _cond=lambda ls, i: mb.less(x=i, y=4),
        _body=lambda ls, i: (
            mb.list_write(ls=ls, index=i, value=mb.mul(x=a, y=mb.cast(x=i, dtype="fp32"))),
            mb.add(x=i, y=1),
        ),
        loop_vars=(mb.make_list(init_length=1, elem_shape=(2,)), 0),
    )[0]
    return mb.list_gather(ls=grown, indices=[3, 0, 2])
