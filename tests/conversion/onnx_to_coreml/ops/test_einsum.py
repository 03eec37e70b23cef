"""Einsum against numpy: every kind of equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conversion.onnx_to_coreml.one_node import check_node
from tests.drawn import normal


@pytest.mark.sweep(8)
@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij->ji", [(3, 4)]),
        ("ij->", [(3, 4)]),
        ("ii->i", [(4, 4)]),
        ("ii", [(4, 4)]),
        ("bijj->bi", [(2, 3, 4, 4)]),
        ("i,i->", [(4,), (4,)]),
        ("i,j->ij", [(3,), (4,)]),
        ("ij,jk", [(3, 4), (4, 5)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 6, 5)]),
        ("bhwc,wkc->bhwk", [(2, 3, 4, 5), (4, 6, 5)]),
        ("nchw,nwhu->nchu", [(2, 3, 4, 5), (2, 5, 4, 6)]),
        ("abcd,cdef->abef", [(2, 3, 4, 5), (4, 5, 6, 2)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]),
        ("...ij,...jk", [(2, 1, 3, 4), (5, 4, 3)]),
        ("b...,b...->b...", [(2, 3, 4), (2, 3, 4)]),
        ("ij,ik,il->jkl", [(2, 3), (2, 4), (2, 5)]),
        ("ija,j->ia", [(2, 3, 4), (3,)]),
        ("ijk,ljk->il", [(2, 3, 4), (5, 3, 4)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    operands = {f"x{i}": normal(*shape) for i, shape in enumerate(shapes)}
    expected = torch.einsum(equation, *(torch.from_numpy(x) for x in operands.values())).numpy()
    check_node("Einsum", operands, expected, equation=equation)


def test_einsum_with_a_free_batch_and_a_constant_operand() -> None:
    x, w = normal(2, 3, 4), normal(5, 4)
    check_node(
        "Einsum",
        {"x": x},
        np.einsum("bij,kj->bik", x, w),
        {"w": w},
        equation="bij,kj->bik",
        free={"x": [0]},
        shapes={"x": [(1, 8), 3, 4]},
    )
