"""The grammar of compression, and which systems hold what it says."""

from __future__ import annotations

import pytest

from coreproof.conversion.onnx_to_coreml.compression_scheme import GRAMMAR, SchemeStep, read_scheme
from coreproof.errors import ConversionError, InputError

SINCE = {
    "palettize:1": 16,
    "palettize:3": 18,
    "palettize:8:uniform": 16,
    "palettize:4:group=8": 18,
    "palettize:4:vector=2": 18,
    "palettize:6:scale": 18,
    "linear:8": 16,
    "linear:8:tensor:asymmetric": 16,
    "linear:8:block=32": 18,
    "linear:4": 18,
    "prune:0.5": 16,
    "prune:2of4": 16,
    "prune:0.5+linear:8": 18,
    "palettize:4+linear:8": 18,
}


@pytest.mark.parametrize("text", SINCE)
def test_each_scheme_says_the_first_system_that_holds_it(text: str) -> None:
    scheme = read_scheme(text)
    since = SINCE[text]
    assert (str(scheme), scheme.since) == (text, since)
    assert scheme.version_for(since, is_said=True) == (since, [])
    made_for, notes = scheme.version_for(since - 1, is_said=False)
    assert made_for == since
    assert text in notes[0]
    with pytest.raises(ConversionError, match=f"needs iOS {since}") as raised:
        scheme.version_for(since - 1, is_said=True)
    assert f"iOS{since}" in str(raised.value.expected)


def test_a_scheme_is_its_steps() -> None:
    assert read_scheme(" prune:0.75 + palettize:4:group=16 ").steps == (
        SchemeStep("prune", share=0.75),
        SchemeStep("palettize", 4, group=16),
    )
    assert read_scheme("prune:1of4").steps == (SchemeStep("prune", least=1, of=4),)


@pytest.mark.parametrize(
    "text",
    [
        "", "palettize", "palettize:", "palettize:5", "palettize:7", "palettize:16", "palettize:x", "linear:2", "linear:6",
        "prune:0", "prune:1", "prune:2", "prune:-0.5", "prune:nan", "prune:4of2", "prune:0of2", "zip:4", "palettize:4:block=8",
        "linear:8:group=2", "linear:8:block", "linear:8:block=0", "linear:8:block=x", "linear:4:tensor:block=8",
        "palettize:4:scale=2", "palettize:4+prune:0.5", "prune:0.5+prune:0.5", "linear:8+palettize:4", "palettize:4+linear:4",
        "prune:0.5+palettize:4+linear:8", "palettize:4+", "prune:0.5 palettize:4", "palettize:4:vector=2+linear:8",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_the_whole_grammar(text: str) -> None:
    with pytest.raises(InputError, match="is not understood") as raised:
        read_scheme(text)
    assert raised.value.expected == GRAMMAR
