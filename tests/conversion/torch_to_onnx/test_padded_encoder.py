"""``nn.TransformerEncoder`` with padding: zeros stand there in evaluation mode, which a trace does not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")
nn = torch.nn

IDS = torch.tensor([[5, 2, 9, 4, 7], [3, 8, 1, 0, 0]])
PADDINGS = {
    "behind": IDS,
    "none": IDS.clamp(min=1),
    "in front": IDS.flip(1),
    "in the middle": torch.tensor([[5, 0, 9, 4, 7], [3, 8, 1, 0, 0]]),
    "all of a text": torch.tensor([[5, 2, 9, 4, 7], [0, 0, 0, 0, 0]]),
    "another length": torch.tensor([[6, 2, 4, 0, 0, 0, 0]]),
    "one place": torch.tensor([[6]]),
}


class Encoder(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, *, norm: bool = True, **said: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, said.pop("heads", 2), 16, batch_first=True, **said)
        last = nn.LayerNorm(8) if norm else None
        self.table = nn.Embedding(10, 8)
        self.layers = nn.TransformerEncoder(layer, 2, norm=last)
        with torch.no_grad():
            for part in self.parameters():
                # a bias of a norm shows whether zeros were normalised
                part.add_(0.3 * torch.randn(part.shape, generator=torch.Generator().manual_seed(part.numel())))

    def forward(self, ids: Any) -> Any:
        return self.layers(self.table(ids), src_key_padding_mask=ids == 0)


KINDS: dict[str, dict[str, Any]] = {
    "with a norm behind": {},
    "without one": {"norm": False, "activation": "gelu"},
    "whose norms stand in front": {"norm_first": True},
    "of one head": {"heads": 1},
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:The PyTorch API of nested tensors")
@pytest.mark.sweep(1)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_becomes_what_pytorch_makes_of_it(kind: str) -> None:
    torch.manual_seed(0)
    module = Encoder(**KINDS[kind]).eval()
    source = cp.load(cp.Source(module, (IDS,)))
    model = cp.convert(source, "mlprogram", precision="fp32", shapes={"ids": ["1..2", "1..8"]})
    for name, ids in PADDINGS.items():
        with torch.no_grad():
            want = module(ids).numpy()
        if not np.isfinite(want).all():
            continue  # layers that see nothing at all
        with cp.session(model) as running:
            (found,) = running.run({"ids": ids.numpy()}).values()
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5, err_msg=name)
    assert cp.verify(source, model, {"ids": IDS.numpy()})


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.sweep(1)
@pytest.mark.parametrize("form", [("mlprogram", {"precision": "fp16"}), ("neuralnetwork", {}), ("onnx", {})])
def test_each_format_has_the_zeros(form: tuple[Any, dict[str, Any]]) -> None:
    torch.manual_seed(0)
    module = Encoder(norm=False).eval()
    source = cp.load(cp.Source(module, (IDS,)))
    model = cp.convert(source, form[0], **form[1])
    with cp.session(model) as running:
        (found,) = running.run({"ids": IDS.numpy()}).values()
    with torch.no_grad():
        np.testing.assert_allclose(found, module(IDS).numpy(), rtol=2e-2, atol=2e-2)
    assert not found[1, 3:].any()
    assert cp.verify(source, model)
