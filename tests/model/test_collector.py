"""Python's collector looks only through what is new, and everything is as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from coreproof.model.collector import only_what_is_new


@pytest.fixture(autouse=True)
def nothing_set_aside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a program begins; the tests' own ``conftest.py`` sets aside what their imports made."""
    monkeypatch.setattr("coreproof.model.collector._within", False)
    gc.unfreeze()
    yield
    gc.freeze()


def test_what_was_there_is_set_aside_and_comes_back() -> None:
    before = gc.get_freeze_count()
    with only_what_is_new():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == before == 0


def test_what_is_made_within_is_collected_as_ever() -> None:
    with only_what_is_new():
        ring: list[object] = []
        ring.append(ring)
        del ring
        assert gc.collect() >= 1


def test_it_comes_back_after_an_error_too() -> None:
    with pytest.raises(KeyError), only_what_is_new():
        raise KeyError
    assert gc.get_freeze_count() == 0


@pytest.mark.thorough
def test_what_somebody_else_has_set_aside_stays_so() -> None:
    gc.freeze()
    try:
        held = gc.get_freeze_count()
        with only_what_is_new(), only_what_is_new():
            assert gc.get_freeze_count() <= held
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_one_within_another_leaves_the_outer_ones_things_aside() -> None:
    with only_what_is_new():
        held = gc.get_freeze_count()
        with only_what_is_new():
            pass
        assert gc.get_freeze_count() >= held // 2 > 0
    assert gc.get_freeze_count() == 0


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with only_what_is_new():
            assert gc.get_freeze_count() == 0
        assert not gc.isenabled()
    finally:
        gc.enable()
