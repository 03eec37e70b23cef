"""split, join and upgrade on the command line, on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import coreproof as cp
from coreproof.cli.main import app
from coreproof.errors import InputError


def test_a_pipeline_is_split_and_joined_again(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coreml" / "happie_random_forest.mlmodel"
    taken = CliRunner().invoke(app, ["split", str(source), str(tmp_path / "stages")], catch_exceptions=False)
    assert taken.exit_code == 0
    files = sorted((tmp_path / "stages").iterdir())
    assert [f.name for f in files] == ["happie_random_forest_stage0.mlmodel", "happie_random_forest_stage1.mlmodel"]
    assert "output  __feature_vector__" in taken.output
    out = tmp_path / "whole.mlmodel"
    joined = CliRunner().invoke(app, ["join", *map(str, files), str(out)], catch_exceptions=False)
    assert joined.exit_code == 0
    assert cp.load(out).graph.nodes == cp.load(source).graph.nodes


def test_join_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="where to write"):
        CliRunner().invoke(app, ["join", str(tmp_path / "out.mlmodel")], catch_exceptions=False)


def test_a_network_is_upgraded(shared_data: Path, tmp_path: Path) -> None:
    source, out = shared_data / "coreml" / "ph1ps_MNIST.mlmodel", tmp_path / "made.mlpackage"
    made = CliRunner().invoke(app, ["upgrade", str(source), str(out), "--precision", "fp32"], catch_exceptions=False)
    assert made.exit_code == 0
    assert "mlprogram" in made.output
    x = np.random.default_rng(1).integers(0, 256, (1, 1, 28, 28)).astype(np.float32)
    results = []
    for path in (source, out):
        with cp.session(cp.load(path)) as running:
            results.append(running.run({"image": x}))
    assert results[0]["classLabel"] == results[1]["classLabel"]
    before, after = (list(r["prediction"].values()) for r in results)
    np.testing.assert_allclose(after, before, atol=1e-6)
