"""The judge of model families says what became of each: in counts, in words, and with the reason of what is not right."""

from __future__ import annotations

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
    ],
}


def test_the_page_counts_what_was_judged_and_gives_reasons() -> None:
    from conformance.model_families import page

    lines = page(RECORDED).splitlines()
    assert "| plain | 2 | 2 of 2 | 0 of 1 | 0 of 1 |" in lines
    assert "| plain:a | right | beyond the format | - |" in lines
    assert "- plain:b, ML Program fp16: wrong: `y: 3 (allowed 1)`" in lines
    assert "- plain:b, free lengths: refused: `it loops over 'range'`" in lines
    assert "- plain:c: `it cannot be made: no such thing`" in lines
