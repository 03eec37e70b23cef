"""A cache of the test's own, a server of this machine, and no waiting between attempts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coreproof.model.named import download
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
