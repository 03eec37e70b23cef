"""ONNX's own backend tests for the layers of image classifiers, against their stored outputs.

``python -m conformance.onnx_backend`` runs all of them; here are those that are quick and that networks rest on.
"""

from __future__ import annotations

import json
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conformance.onnx_backend import HERE, Listed, Outcome, cases, expressible_counts, judge, listed

pytestmark = (
    pytest.mark.thorough
)  # a judge: the operators' own tests guard each change, and CI runs a quarter of all of these

FAMILIES = re.compile(
    r"test_(conv_with|basic_conv|convtranspose|averagepool_2d|averagepool_1d|maxpool_2d|maxpool_1d|globalaveragepool|globalmaxpool"
    r"|batchnorm_(epsilon|example)$|instancenorm|layer_normalization_(2d|3d)_axis\d(_epsilon)?$|group_normalization_\w+e$|lrn"
    r"|relu|leakyrelu|elu|selu|celu$|gelu_\w+[12]$|hardsigmoid|hardswish$|mish$|sigmoid|softplus|softsign|softmax_axis_\d$"
    r"|logsoftmax_axis_\d$|prelu|thresholdedrelu|swish$|tanh|erf|add$|add_bcast|sub|mul|div$|pow_example|sqrt|exp|clip_default_max"
    r"|abs|neg|floor|ceil|round|reciprocal|min_example|max_example|sum_example|mean_example)"
)
UNJUDGED = re.compile(r"uint8|uint16|uint32|uint64|int8|int16|training|expanded|expand_shape_model|bfloat16")


def is_chosen(name: str) -> bool:
    return FAMILIES.match(name) is not None and not UNJUDGED.search(name)


@cache
def every() -> dict[str, Any]:
    """All tests of a node, which onnx computes when they are asked for: that takes seconds."""
    return {c.name: c for c in cases(("node",))}


@cache
def chosen() -> dict[str, Any]:
    return {name: case for name, case in every().items() if is_chosen(name)}


def recorded() -> list[str]:
    """The names as they were last recorded: onnx itself computes all its tests before it tells their names."""
    tests = json.loads((HERE / "results" / "onnx-mlprogram-fp32.json").read_text())["tests"]
    return sorted(test["name"] for test in tests if is_chosen(test["name"]))


def stored_outputs_come_out(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = judge(chosen()[name])
    assert outcome.status in ("passed", "frozen"), outcome.reason


@pytest.mark.parametrize("name", recorded())
def test_stored_outputs_come_out(name: str) -> None:
    if name not in chosen():
        pytest.skip("this version of onnx has no such test")
    stored_outputs_come_out(name)


def test_what_was_not_recorded_comes_out_too() -> None:
    for name in chosen().keys() - set(recorded()):
        stored_outputs_come_out(name)


def test_the_families_are_really_judged() -> None:
    assert len(chosen().keys() & set(recorded())) > 100


def case(name: str) -> Any:
    return every()[name]


def test_the_list_says_which_inputs_are_frozen_and_no_other_is(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "kind,name,expressible,reason,frozen_inputs\n"
        "node,test_constant_pad_axes,frozen,,axes\nnode,test_split_variable_parts_1d_opset18,yes,,\nnode,test_constant_pad_negative_axes,frozen,,\n"
    )
    rows = listed(table)
    assert rows["test_constant_pad_axes"] == Listed("node", "frozen", ("axes",))
    outcomes = [judge(case(name), row=row) for name, row in rows.items()]
    assert [o.status for o in outcomes] == ["frozen", "passed", "refused"]
    assert [o.came_out for o in outcomes] == [True, True, False]
    assert expressible_counts(outcomes, rows) == {"node": {"frozen": 1, "passed": 1, "refused": 1}}
    assert (
        judge(case("test_constant_pad_negative_axes")).status == "frozen"
    )  # without a list all inputs but the first are


def test_what_passes_as_shipped_elsewhere_is_not_let_off_with_constants() -> None:
    rows = {"a": Listed("node", "yes", ("k",)), "b": Listed("node", "frozen", ("k",)), "c": Listed("node", "no", ())}
    outcomes = [Outcome(name, (), "frozen", expressible=row.expressible) for name, row in rows.items()]
    assert [o.came_out for o in outcomes] == [False, True, True]
    assert expressible_counts(outcomes, rows) == {"node": {"frozen where it passes as shipped": 1, "frozen": 1}}
