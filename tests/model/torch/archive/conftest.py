"""What every test of .pt2 archives may ask for: a sound one, and the folder that appears when something was executed."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """Stands there when something in a file was executed."""
    return tmp_path / "EXECUTED"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of one linear layer with a free batch."""
    from tests.model.torch.archive import programs  # needs torch: the tests are skipped without it

    path = tmp_path_factory.mktemp("good") / "good.pt2"
    programs.torch.export.save(programs.exported(programs.Small(), programs.torch.ones(2, 4), free=True), path)
    return path
