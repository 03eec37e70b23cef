"""What PyTorch exports of a module may differ from the module itself: then the export's own account excuses no output."""

from __future__ import annotations

from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import ConversionError

torch = pytest.importorskip("torch", reason="needs the torch extra")


class OtherwiseAtTheEnd(torch.nn.Module):
    """Another factor while it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        return y * 3 if torch.compiler.is_exporting() else y * 1


class OtherwiseInside(torch.nn.Module):
    """One activation more while it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.first(x))
        return self.last(torch.tanh(y) if torch.compiler.is_exporting() else y)


class RunningMaximum(torch.nn.Module):
    """Keeps the largest of what it saw in a plain attribute: the same input twice in a row shows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.full((1, 8), -10.0)

    def forward(self, x: Any) -> Any:
        self.seen = torch.maximum(self.seen, x)
        return self.seen * 1


def source(kind: type) -> cp.Source:
    torch.manual_seed(0)
    return cp.Source(kind().eval(), (torch.randn(1, 8),))


@pytest.mark.sweep(2)
@pytest.mark.parametrize("kind", [OtherwiseAtTheEnd, OtherwiseInside])
@pytest.mark.parametrize(
    ("to", "how"), [("mlprogram", {"precision": "fp32"}), ("mlprogram", {}), ("onnx", {})], ids=str
)
def test_a_module_that_goes_another_way_while_it_is_exported(kind: type, to: Any, how: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match="does not answer as its source does"):
        cp.convert(source(kind), to, **how)
    found = cp.verify(source(kind), cp.convert(source(kind), to, check=False, **how))
    assert not found
    assert [row.how for row in found.rows if not row.agrees] == ["output"]
    assert "its forward goes another way while it is exported" in found.inputs


def test_a_running_maximum_in_an_attribute_is_found_by_another_input_between_two_calls() -> None:
    with pytest.raises(ConversionError, match="answers differently when it is called twice in a row"):
        cp.convert(source(RunningMaximum), "mlprogram", precision="fp32")


class IllConditioned(torch.nn.Module):
    """Float16 brings nothing right of it, and that is rounding and no fault."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return torch.sin(300 * self.layer(x))


def test_what_rounding_changes_stays_excused() -> None:
    made = cp.convert(source(IllConditioned), "mlprogram")
    found = cp.verify(source(IllConditioned), made)
    assert found, found.summary()
    assert any(row.carried is not None for row in found.outputs)  # so that the module was asked
    assert "another way" not in found.inputs
