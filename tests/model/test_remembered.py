"""Which inputs and outputs hold what a model remembers: patterns, and what its metadata notes."""

from __future__ import annotations

import pytest

from coreproof.errors import InputError
from coreproof.model.features import Feature, Signature
from coreproof.model.remembered import PAIRS, matched_pairs, note_pairs, noted_pairs, read_pairs


def _signature(inputs: str, outputs: str) -> Signature:
    def features(names: str) -> tuple[Feature, ...]:
        return tuple(Feature(n.rstrip("!"), dtype="int64" if n.endswith("!") else "float32") for n in names.split())

    return Signature(features(inputs), features(outputs))


CACHE = _signature("ids past.0.key past.0.value past.1.key", "logits present.0.key present.0.value present.1.key")


def test_stars_stand_for_the_same_text_on_both_sides() -> None:
    wanted = {f"past.{n}": f"present.{n}" for n in ("0.key", "0.value", "1.key")}
    assert matched_pairs({"past.*": "present.*"}, CACHE, "net") == wanted
    assert matched_pairs({"past.*.*": "present.*.*"}, CACHE, "net") == wanted
    assert matched_pairs({"past.1.key": "present.1.key"}, CACHE, "net") == {"past.1.key": "present.1.key"}


def test_all_that_does_not_fit_is_told_at_once() -> None:
    net = _signature("past_a past_b past_c n!", "present_a now n_after")
    with pytest.raises(InputError) as caught:
        matched_pairs({"past_*": "present_*", "cache_*": "x_*", "n": "n_after"}, net, "net")
    for told in (
        "no output is called present_b",
        "present_c",
        "no input is called cache_*",
        "n is int64, and n_after float32",
    ):
        assert told in str(caught.value)


def test_two_states_are_not_held_by_one_output() -> None:
    with pytest.raises(InputError, match="output y holds another state already"):
        matched_pairs({"a": "y", "b": "y"}, _signature("a b", "y"), "net")


@pytest.mark.parametrize("pattern", ["past", "=present", "past=", "past_*=present", "past=present_*"])
def test_a_pattern_has_two_sides_with_as_many_stars(pattern: str) -> None:
    with pytest.raises(InputError, match="--state takes INPUT=OUTPUT"):
        read_pairs([pattern])


def test_patterns_are_read_and_may_be_several() -> None:
    assert read_pairs(["past_*=present_*", "n=m"]) == {"past_*": "present_*", "n": "m"}


@pytest.mark.parametrize(
    "stored", ["", "{", "[1]", "[" * 100_000, '{"ids": 3}', '{"ids": "gone"}', '{"gone": "logits"}']
)
def test_notes_that_make_no_sense_are_none(stored: str) -> None:
    assert noted_pairs({PAIRS: stored}, CACHE) == {}


def test_what_is_noted_is_read_again() -> None:
    metadata: dict[str, str] = {}
    note_pairs(metadata, {})
    assert metadata == {}
    note_pairs(metadata, {"past.1.key": "present.1.key"})
    assert noted_pairs(metadata, CACHE) == {"past.1.key": "present.1.key"}
