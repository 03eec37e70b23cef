"""Cross entropy against PyTorch: smoothed labels, classes that are ignored, weights, and shares of classes as a target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.torch.model import import_torch
from tests.conversion.torch_to_onnx.test_rewritten import Called, drawn

torch = import_torch()
F = torch.nn.functional

CLASSES = torch.tensor([0, 1, 2, 3, 4, 2])
PLACES = torch.tensor([[[0, 1], [4, -100]], [[3, -100], [2, 2]]])
SHARES = torch.softmax(drawn(6, 5, seed=3), 1)
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.7])
LOGITS = 3 * drawn(6, 5)
IMAGE = 3 * drawn(2, 5, 2, 2)
FORMS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "plain": (LOGITS, CLASSES, {}),
    "smoothed": (LOGITS, CLASSES, {"label_smoothing": 0.1}),
    "smoothed and ignored": (LOGITS, CLASSES, {"label_smoothing": 0.4, "ignore_index": 2}),
    "smoothed, weighted, ignored": (LOGITS, CLASSES, {"label_smoothing": 0.3, "weight": WEIGHT, "ignore_index": 3}),
    "weighted": (LOGITS, CLASSES, {"weight": WEIGHT}),
    "of a picture": (IMAGE, PLACES, {"label_smoothing": 0.2, "weight": WEIGHT}),
    "of shares": (LOGITS, SHARES, {}),
    "of shares, smoothed and weighted": (LOGITS, SHARES, {"label_smoothing": 0.2, "weight": WEIGHT}),
    "of one row": (LOGITS[0], torch.tensor(3), {"label_smoothing": 0.2}),
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", FORMS)
def test_each_format_computes_pytorch_s_loss(name: str, reduction: str) -> None:
    logits, target, options = FORMS[name]
    module = Called(lambda x, t: F.cross_entropy(x, t, reduction=reduction, **options)).eval()
    expected = module(logits, target).numpy()
    source = cp.convert(cp.Source(module, (logits, target)), "onnx", check=False)
    fed = dict(zip((f.name for f in source.signature.inputs), (logits.numpy(), target.numpy()), strict=True))
    for to in ("onnx", "mlprogram"):
        made = source if to == "onnx" else cp.convert(source, "mlprogram", precision="fp32", check=False)
        given = {n: np.atleast_1d(a) for n, a in fed.items()} if to == "mlprogram" else fed
        with cp.session(made) as running:
            found = np.asarray(next(iter(running.run(given).values())))
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6, err_msg=to)
