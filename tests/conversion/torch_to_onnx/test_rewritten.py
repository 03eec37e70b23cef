"""Operators that PyTorch's exporter writes down as something else: in all formats they are what PyTorch computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")
F = torch.nn.functional


def drawn(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def points() -> tuple[Any, Any]:
    """Two sets with points and coordinates in common."""
    a, b = drawn(2, 5, 4), drawn(2, 3, 4, seed=1)
    b[0, 0] = a[0, 1]
    a[1, 0, :2] = b[1, 2, :2]
    return a, b


INDEX = torch.tensor([[0, 1, 1, 2], [2, 2, 0, 1]])
PICTURE, VOLUME = (drawn(1, 3, 9, 7),), (drawn(2, 5, 6, 7),)
ROWS = drawn(3, 4), drawn(2, 4, seed=1)
WHOLE = torch.randint(-9, 9, (3, 4)), torch.randint(-9, 9, (2, 4))
SEEN = torch.tensor([[False] * 5, [True] * 5, [False, True, False, True, True], [False] * 5, [True] + [False] * 4])
HEADS = drawn(1, 4, 5, 8), drawn(1, 4, 5, 8, seed=1), drawn(1, 4, 5, 8, seed=2)
GROUPED = HEADS[0], drawn(1, 2, 5, 8, seed=1), drawn(1, 2, 5, 8, seed=2)
CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "queries that see no key": (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), (*HEADS, SEEN)),
    "of a mask for each head": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, scale=0.3),
        (*HEADS, torch.stack([SEEN, SEEN.T, SEEN, ~SEEN])[None]),
    ),
    "that share keys": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, enable_gqa=True),
        (*GROUPED, SEEN[None, None]),
    ),
    "of a mask that is added": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        (*HEADS, torch.zeros(5, 5).masked_fill(~SEEN, -torch.inf)),
    ),
    "of a mask that is computed and added": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, torch.zeros(5, 5).masked_fill(~m, -torch.inf)),
        (*HEADS, SEEN),
    ),
    "of a mask that is known": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, SEEN), HEADS),
    **{f"cdist {p}": (lambda a, b, p=p: torch.cdist(a, b, p=p), points()) for p in (0.0, 0.5, 1.0, 2.0, 3.0, np.inf)},
    "extremes of all": (lambda x: x - x.amax() + x.amin(keepdim=True), PICTURE),
    "extremes of whole numbers and truths": (
        lambda x: x.amax() + (x > 0).amin(1).int() + (x > 99).amax().int(),
        WHOLE[:1],
    ),
    "sum of windows": (lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=1), PICTURE),
    "uneven windows": (lambda x: F.avg_pool2d(x, (2, 3), padding=(1, 0), divisor_override=7), PICTURE),
    "windows over the end": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, divisor_override=2), PICTURE),
    "a last window that begins in the padding": (
        lambda x: F.avg_pool2d(x, 2, 3, 1, True, divisor_override=-3),
        PICTURE,
    ),
    "padding that does not count": (lambda x: F.avg_pool2d(x, 3, 2, 1, False, False, 5), PICTURE),
    "volumes": (lambda x: F.avg_pool3d(x, 2, 2, 1, True, divisor_override=3), VOLUME),
    "without divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), PICTURE),
    "volumes without divisor": (lambda x: F.avg_pool3d(x, (2, 1, 3)), VOLUME),
    "mean": (lambda z, s: z.scatter_reduce(0, INDEX, s, "mean"), ROWS),
    "mean of what is written": (lambda z, s: z.scatter_reduce(0, INDEX, s, "mean", include_self=False), ROWS),
    "mean along rows": (lambda z, s: z.scatter_reduce(1, INDEX, s, "mean", include_self=False), (ROWS[0], ROWS[1])),
    "mean of a part": (lambda z, s: z.scatter_reduce(0, INDEX[:, :3], s, "mean"), ROWS),
    "mean of integers": (lambda z, s: z.scatter_reduce(0, INDEX, s, "mean"), WHOLE),
    "largest": (lambda z, s: z.scatter_reduce(0, INDEX, s, "amax", include_self=False), ROWS),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_each_format_computes_what_pytorch_computes(name: str) -> None:
    function, tensors = CASES[name]
    module = Called(function).eval()
    expected = module(*(t.clone() for t in tensors)).numpy()
    source = cp.convert(cp.Source(module, tensors), "onnx", check=False)
    fed = dict(zip((f.name for f in source.signature.inputs), (t.numpy() for t in tensors), strict=True))
    for to, options in (("onnx", {}), ("mlprogram", {"precision": "fp32"}), ("neuralnetwork", {})):
        if (name, to) == ("mean of integers", "neuralnetwork"):  # which has no way to look for a sum beyond 32 bits
            with pytest.raises(ConversionError, match="may not fit the 32 bits"):
                cp.convert(source, to, check=False)
            continue
        made = source if to == "onnx" else cp.convert(source, to, check=False, **options)  # type: ignore[arg-type]
        with cp.session(made) as running:
            found = np.asarray(next(iter(running.run(fed).values())))
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5, err_msg=to)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (4, 1, 2), (2, 2, 0), (5, 3, 1)])
def test_windows_over_the_end_of_a_free_length_are_summed_at_every_length(
    kernel: int, stride: int, padding: int
) -> None:
    module = Called(lambda x: F.avg_pool2d(x, kernel, stride, padding, True, divisor_override=5)).eval()
    made = cp.convert(
        cp.Source(module, PICTURE), "mlprogram", precision="fp32", shapes={"input_0": [1, 3, (7, 20), (7, 20)]}
    )
    with cp.session(made) as running:
        for length in range(7, 21):
            x = drawn(1, 3, length, 27 - length)
            found = np.asarray(next(iter(running.run({"input_0": x.numpy()}).values())))
            np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-5, atol=1e-5)


def test_a_last_window_in_the_padding_of_a_free_length_is_refused_by_name() -> None:
    """What PyTorch's other exporter writes forgets the divisor."""
    module = Called(lambda x: F.avg_pool2d(x, 2, 3, 1, True, divisor_override=5)).eval()
    with pytest.raises(cp.CoreproofError, match=r"divisor_override and ceil_mode.*known lengths"):
        cp.convert(cp.Source(module, PICTURE), "mlprogram", shapes={"input_0": [1, 3, (7, 20), (7, 20)]})


def test_a_mask_that_hides_by_a_finite_number_costs_nothing() -> None:
    """Such a query sees all keys alike, in PyTorch too."""

    def attend(q: Any, k: Any, v: Any, seen: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, torch.where(seen, 0.0, torch.finfo(q.dtype).min))

    source = cp.convert(cp.Source(Called(attend).eval(), (*HEADS, SEEN)), "onnx", check=False)
    operators = [node.operator for node in source.graph.nodes]
    assert operators.count("Where") == 1
    assert "Equal" not in operators
    with cp.session(source) as running:
        fed = dict(zip((f.name for f in source.signature.inputs), (*HEADS, SEEN), strict=True))
        (made,) = running.run({name: tensor.numpy() for name, tensor in fed.items()}).values()
    np.testing.assert_allclose(made, attend(*HEADS, SEEN).numpy(), atol=1e-6)
