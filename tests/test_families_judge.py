"""The judge of model families says what became of each: in counts, in words, and with the reason of what is not right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

RECORDED = {
    "command": "python -m conformance.model_families --record",
    "commit": "abc1234",
    "date": "2026-11-27",
    "seed": 0,
    "records": [
        {"family": "plain:a", "mlprogram-fp32": ["right", ""], "mlprogram-fp16": ["beyond the format", ""]},
        {
            "family": "plain:b",
            "mlprogram-fp32": ["right", ""],
            "mlprogram-fp16": ["wrong", "y: 3 (allowed 1)"],
            "other size": ["refused", "it loops over `range`"],
        },
        {"family": "plain:c", "skipped": "it cannot be made: no such thing"},
        {"family": "plain:d", "mlprogram-fp32": ["not exportable", "it branches"]},
    ],
    "not judged yet": ["plain:e", "plain:f"],
}


def test_the_page_counts_what_was_judged_and_gives_reasons() -> None:
    from conformance.model_families import page

    lines = page(RECORDED).splitlines()
    assert "| plain | 3 | 2 of 2 | 0 of 1 | 0 of 1 |" in lines
    assert "| plain:a | right | beyond the format | - |" in lines
    assert "- plain:b, ML Program fp16: wrong: `y: 3 (allowed 1)`" in lines
    assert "- plain:b, free lengths: refused: `it loops over 'range'`" in lines
    assert "- plain:c: `it cannot be made: no such thing`" in lines
    apart = lines[lines.index("## What PyTorch itself cannot export") :]
    assert "- plain:d, ML Program fp32: not exportable: `it branches`" in apart
    assert "- plain:b, ML Program fp16: wrong: `y: 3 (allowed 1)`" not in apart
    assert "2: plain:e, plain:f" in apart


def test_a_run_goes_on_where_the_record_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from conformance import model_families

    judged: list[str] = []

    def ended(family: str) -> dict[str, object]:
        judged.append(family)
        if judged == ["plain:a", "plain:b"]:
            raise KeyboardInterrupt
        return {"family": family, "commit": "abc", "mlprogram-fp32": ["right", ""], "mlprogram-fp16": ["right", ""]}

    monkeypatch.setattr(model_families, "RESULTS", tmp_path / "families.json")
    monkeypatch.setattr(model_families, "PAGE", tmp_path / "families.md")
    monkeypatch.setattr(model_families, "FAMILIES", {"plain": ["a", "b", "c"]})
    monkeypatch.setattr(model_families, "_in_a_process", ended)
    monkeypatch.setattr(sys, "argv", ["model_families", "--record", "--kind", "plain", "--jobs", "1"])
    with pytest.raises(KeyboardInterrupt):
        model_families.main()
    part = json.loads((tmp_path / "families.json").read_text())
    assert [r["family"] for r in part["records"]] == ["plain:a"]
    assert part["not judged yet"] == ["plain:b", "plain:c"]
    judged.append("the second run")
    assert model_families.main() == 0
    assert judged[judged.index("the second run") + 1 :] == ["plain:b", "plain:c"]
    assert json.loads((tmp_path / "families.json").read_text())["not judged yet"] == []
    assert "| plain | 3 | 3 of 3 | 3 of 3 | 0 of 0 |" in (tmp_path / "families.md").read_text().splitlines()


def test_what_pytorch_itself_cannot_export_is_told_apart() -> None:
    import torch
    from conformance.model_families import _not_exportable

    class Branches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if bool(x.sum() > 0) else x - 1

    assert "data-dependent" in _not_exportable(Branches(), {"x": torch.ones(2)})
    assert _not_exportable(torch.nn.Linear(2, 2), {"input": torch.ones(1, 2)}) == ""
