"""Node data for Model Explorer: every node and value with a number and a colour, the first divergence apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from coreproof.verification.node_data import NOT_A_NUMBER, node_data, write_node_data
from coreproof.verification.verify import verify
from tests.build import as_half, residual_net


def test_nodes_and_values_of_both_models_are_coloured(tmp_path: Path) -> None:
    right, wrong = residual_net(), residual_net(fault="swapped channel")
    found = verify(right, wrong)
    data = json.loads(write_node_data(found, tmp_path / "errors.json", (right.graph, wrong.graph)).read_text())
    results = data["results"]
    assert set(data) == {"results"}
    assert {"conv2", "node_conv2", "y", "node_y"} <= set(results)
    assert results["node_conv2"]["bgColor"] == "#7b1fa2"
    assert [name for name, r in results.items() if "textColor" in r] == ["conv2", "node_conv2"]
    assert results["conv1"]["value"] == 0
    assert results["conv1"]["bgColor"] != results["norm2"]["bgColor"]
    errors = {row.candidate: row.judgement.rms_relative_error for row in found.rows}
    assert all(results[name]["value"] == error for name, error in errors.items())


def test_shades_follow_the_share_of_the_tolerance() -> None:
    found = verify(residual_net(), as_half(residual_net(half=True)))
    row = found.rows[3]
    shades = []
    for times in (0.0, 0.05, 0.3, 0.8, 5, 100, 1e6):
        tolerance = replace(row.tolerance, typical=None)
        limit = tolerance.relative * times
        judgement = replace(row.judgement, tolerance=tolerance, required_relative=limit, agrees=times <= 1)
        other = replace(found, rows=(found.rows[0], *[replace(row, judgement=judgement)]))
        first = replace(found.rows[0], judgement=replace(found.rows[0].judgement, agrees=False))
        shades.append(node_data(replace(other, rows=(first, other.rows[1])))["results"][row.candidate]["bgColor"])
    assert len(set(shades)) == len(shades), "seven shades from no error to a million times what is allowed"


def test_an_error_that_is_no_number_still_has_one() -> None:
    found = verify(residual_net(), residual_net(fault="no bias"))
    row = found.rows[-1]
    other = replace(row, judgement=replace(row.judgement, rms_relative_error=float("nan")))
    data = node_data(replace(found, rows=(*found.rows[:-1], other)))
    assert data["results"]["y"]["value"] == NOT_A_NUMBER
    json.dumps(data, allow_nan=False)
