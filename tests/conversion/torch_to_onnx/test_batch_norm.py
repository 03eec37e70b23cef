"""Batch normalisation that trains goes by the statistics of what is fed, and changes the running ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")
F = torch.nn.functional


def drawn(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


PICTURE = drawn(4, 3, 5, 6) * 2 + 3
MEAN, VARIANCE, GAIN, OFFSET = drawn(3, seed=1), drawn(3, seed=2).abs() + 0.5, drawn(3, seed=3), drawn(3, seed=4)


def and_what_it_changes(x: Any, mean: Any, variance: Any) -> Any:
    normal = F.batch_norm(x, mean, variance, training=True, momentum=0.3)
    return normal, mean * 1, variance * 1


CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "pictures": (lambda x, m, v: F.batch_norm(x, m, v, training=True), (PICTURE, MEAN, VARIANCE)),
    "rows": (lambda x, m, v: F.batch_norm(x, m, v, training=True), (PICTURE[:, :, 0, 0], MEAN, VARIANCE)),
    "volumes": (lambda x, m, v: F.batch_norm(x, m, v, training=True), (PICTURE[..., None], MEAN, VARIANCE)),
    "scaled": (
        lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b, training=True, eps=0.1),
        (PICTURE, MEAN, VARIANCE, GAIN, OFFSET),
    ),
    "without running statistics": (lambda x: F.batch_norm(x, None, None, training=True), (PICTURE,)),
    "its own statistics": (
        lambda x, m, v: torch.native_batch_norm(x, None, None, m, v, True, 0.5, 0.6),
        (PICTURE, MEAN, VARIANCE),
    ),
    "what it changes": (and_what_it_changes, (PICTURE, MEAN, VARIANCE)),
    "each picture": (lambda x, m, v: F.instance_norm(x, m, v, use_input_stats=True), (PICTURE, MEAN, VARIANCE)),
    "stored statistics": (lambda x, m, v: F.batch_norm(x, m, v), (PICTURE, MEAN, VARIANCE)),
}


@pytest.mark.sweep(4)
@pytest.mark.parametrize("name", CASES)
def test_each_format_computes_what_pytorch_computes(name: str) -> None:
    function, tensors = CASES[name]
    module = Called(function).eval()
    answers = module(*(t.clone() for t in tensors))
    expected = [a.numpy() for a in (answers if isinstance(answers, tuple) else (answers,))]
    source = cp.convert(cp.Source(module, tuple(t.clone() for t in tensors)), "onnx", check=False)
    fed = dict(zip((f.name for f in source.signature.inputs), (t.numpy() for t in tensors), strict=True))
    for to, options in (("onnx", {}), ("mlprogram", {"precision": "fp32"}), ("neuralnetwork", {})):
        made = source if to == "onnx" else cp.convert(source, to, check=False, **options)  # type: ignore[arg-type]
        with cp.session(made) as running:
            found = list(running.run(fed).values())
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(got).reshape(want.shape), want, rtol=1e-5, atol=1e-5, err_msg=to)


def test_a_free_batch_is_normalised_by_what_is_in_it() -> None:
    module = Called(CASES["what it changes"][0]).eval()
    tensors = (PICTURE, MEAN, VARIANCE)
    source = cp.Source(module, tuple(t.clone() for t in tensors))
    made = cp.convert(source, "mlprogram", precision="fp32", shapes={"input_0": [(2, 8), 3, 5, 6]})
    for batch in (2, 5, 8):
        fed = (drawn(batch, 3, 5, 6, seed=batch), MEAN, VARIANCE)
        with cp.session(made) as running:
            found = list(running.run({f"input_{i}": t.numpy() for i, t in enumerate(fed)}).values())
        for got, want in zip(found, module(*(t.clone() for t in fed)), strict=True):
            np.testing.assert_allclose(np.asarray(got), want.numpy(), rtol=1e-5, atol=1e-5)


class Keeps(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("variance", torch.ones(3))

    def forward(self, x: Any) -> Any:
        return F.batch_norm(x, self.mean, self.variance, training=True)


def test_running_statistics_that_change_become_states_or_are_frozen() -> None:
    source, asked = cp.Source(Keeps(), (PICTURE,)), Keeps()
    made = cp.convert(source, "mlprogram", precision="fp32")
    assert [state.name for state in made.signature.states] == ["mean", "variance"]
    with cp.session(made) as running:
        state = running.state()
        for share in (1, 3, 0.5):
            expected = asked(PICTURE * share).numpy()
            (found,) = running.run({"x": (PICTURE * share).numpy()}, state=state).values()
            np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5)
        # a state of Core ML's is of float16
        np.testing.assert_allclose(np.asarray(state["mean"]), asked.mean.numpy(), rtol=2e-3, atol=2e-3)
    made = cp.convert(source, "mlprogram", precision="fp32", freeze_state=True)
    with cp.session(made) as running:
        (found,) = running.run({"x": PICTURE.numpy()}).values()
    expected = F.batch_norm(PICTURE, None, None, training=True).numpy()
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5)
