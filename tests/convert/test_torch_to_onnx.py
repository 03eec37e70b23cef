"""PyTorch -> ONNX: what the exporter must not simplify away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")


@pytest.mark.parametrize("fold", [True, False])
def test_a_small_epsilon_stays(fold: bool) -> None:
    from coreproof.convert.torch_to_onnx import torch_to_onnx
    from coreproof.model.torch import TorchModel
    from coreproof.run.session import session

    class Normalised(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-12) + 0.0

    x = torch.zeros(2, 4)
    x[1] = 1e-6
    net = Normalised()
    exported = torch_to_onnx(TorchModel(net, (x,), name="norm"), fold_batchnorm=fold)
    with session(exported) as running:
        (got,) = running.run({exported.signature.inputs[0].name: x.numpy()}).values()
    assert np.allclose(got, net(x).numpy(), rtol=1e-5)
    assert got[0].tolist() == [0, 0, 0, 0]
    assert got[1][0] == pytest.approx(np.sqrt(0.5), rel=1e-4)
    # what adds nothing is still dropped
    assert [n.operator for n in exported.graph.nodes].count("Add") == 1


def test_the_exporter_is_left_as_it_was() -> None:
    from onnxscript.rewriter import _pattern_ir

    from coreproof.convert.torch_to_onnx import _small_addends_kept

    before = _pattern_ir.Constant(0.0)
    with _small_addends_kept():
        within = _pattern_ir.Constant(0.0)
        assert before._abs_tol == within._abs_tol == 0.0
    assert before._abs_tol == within._abs_tol > 0.0
