"""A cache of the test's own, a server of this machine, and no waiting between attempts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coreproof.model.named import download
from tests.model.named.hub_cache import is_installed, stand_in
from tests.model.named.server import Server, serving


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COREPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path) -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def hub(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's library, which has no network in this test; the library itself where it is installed."""
    kept = tmp_path / "hub"
    kept.mkdir()
    if is_installed("huggingface_hub"):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(kept))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        # bound as defaults, or read at import
        monkeypatch.setattr(constants, "HUGGINGFACE_HUB_CACHE", str(kept), raising=False)
    else:
        for name, module in stand_in(kept).items():
            monkeypatch.setitem(sys.modules, name, module)
    return kept
