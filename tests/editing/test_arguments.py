"""Arguments of edits that make no sense are told by the edit's number and their name, before anything runs."""

from __future__ import annotations

from contextlib import suppress
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof.editing.verbs  # noqa: F401 - registers the verbs
from coreproof.editing.arguments import require_arguments
from coreproof.editing.edit import Edit, edit
from coreproof.editing.script import parse, read_script
from coreproof.editing.verbs.registry import VERBS
from coreproof.errors import CoreproofError, EditError
from coreproof.model.base import Model
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx, layer, network


def onnx() -> Model:
    return OnnxModel(conv_relu_onnx(), name="net")


def net() -> Model:
    convolution = layer("convolution", "x", "c", outputChannels=2, kernelChannels=3, kernelSize=[1, 1], valid={},
                        weights=np.ones(6))  # fmt: skip
    return network([convolution, layer("activation", "c", "y", ReLU={})], {"x": (3, 4, 4)}, {"y": None})


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("extract", {"outputs": [1, 2]}, r"extract: 'outputs' is a list: \[1, 2\]"),
        ("rename", {"old": [1, 3], "new": "y"}, r"rename: 'old' is a list.*\n.*\n.*old: a text"),
        ("respecify", {"version": "8"}, "'version' is a text: '8'"),
        ("declare", {"output": []}, "'output' is a list"),
        ("widen", {"layers": True}, "'layers' is true or false: True"),
        ("reshape", {"feature": "x", "shape": 0}, "'shape' is a whole number: 0"),
        ("reshape", {"feature": "x", "ranges": [1, 3]}, r"'ranges' is a list: \[1, 3\]"),
        ("reshape", {"feature": "x", "shape": [10**30]}, "'shape' is a list"),
        ("replace", {"layer": "c", "operator": [[1]], "inputs": 3}, "'operator' is a list"),
        ("batch", {"input": np.ones(3)}, r"'input' is an array, float64\[3\]"),
        ("divide", {"value": "c", "layer": "conv"}, "'new' is missing"),
        ("delete", {"layer": "c", "colour": "red"}, "there is no 'colour'"),
        ("delete", {"layer": "c", "editor": 3}, "there is no 'editor'"),
        ("retype", {"feature": "x", "scale": "much"}, "'scale' is a text: 'much'"),
        ("relabel", {"labels": {"a": 1}}, "'labels' is a table"),
        ("banana", {}, "there is no verb 'banana'"),
    ],
)
def test_an_argument_of_another_type_is_told_by_name(verb: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(EditError, match=rf"(?s){words}.*edit 1 \({verb}\)|{words}"):
        edit(onnx(), [Edit(verb, arguments)])


def test_every_edit_is_judged_before_the_first_runs() -> None:
    steps = [Edit("delete", {"layer": "absent"}), Edit("delete", {"layer": 3}), Edit("rename", {"old": "c"})]
    with pytest.raises(EditError, match=r"(?s)edit 2 \(delete\).*edit 2 .*edit 3 \(rename\).*'new' is missing"):
        edit(onnx(), steps)


def test_numpys_numbers_and_tuples_are_lists_and_numbers() -> None:
    require_arguments(
        VERBS,
        [
            ("reshape", {"feature": "x", "shape": (np.int64(1), 3), "ranges": np.ones((2, 2), np.int32)}),
            ("retype", {"feature": "x", "scale": np.float32(2), "bias": [1, 2.5]}),
            ("delete", {"layer": "c", "reconnect": np.bool_(True)}),
        ],
    )


WRONG: tuple[Any, ...] = (
    None,
    0,
    -1,
    2**62,
    1e400,
    "",
    "x",
    "no such",
    True,
    [],
    [[]],
    ["x", 3],
    {"x": 1},
    np.zeros((2, 0)),
)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("make", [onnx, net])
def test_whatever_is_given_it_is_done_or_told(verb: str, make: Any) -> None:
    """Each argument of each verb in turn takes each of these values, the others have sensible ones."""
    usual = {"layer": "relu", "to": "relu", "source": "c", "value": "c", "operator": "Relu", "name": "fresh", "new": "fresh",
             "old": "c", "after": "c", "input": "x", "feature": "x", "output": "y", "version": 4, "labels": ["a"],
             "layers": ["relu"], "attribute": "alpha"}  # fmt: skip
    named = [n for n, p in list(signature(VERBS[verb]).parameters.items())[1:] if p.kind is not Parameter.VAR_KEYWORD]
    needed = {n: usual[n] for n in named if n in usual}
    for name in [*named, "weights", "epsilon"]:
        for wrong in WRONG:
            with suppress(CoreproofError):
                assert edit(make(), [Edit(verb, {**needed, name: wrong})]).changes


@pytest.mark.parametrize(
    ("path", "value"),
    [("kernelSize", "x"), ("kernelSize", [[1]]), ("weights", {"floatValue": "x"}), ("weights", np.ones((0, 3))),
     ("nGroups", 1e400), ("valid.paddingAmounts", 3), ("", 3), ("a..b", 3), ("kernelSize[99]", 3)],
)  # fmt: skip
def test_what_a_layer_cannot_hold_is_told(path: str, value: Any) -> None:
    with pytest.raises(EditError, match=r"edit 1 \(set "):
        edit(net(), [Edit("set", {"layer": "the convolution", "attribute": path, "value": value})])


# scripts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = 2", "update coreproof"),
        ("version = 'one'", "version: expected a whole number, found a text"),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("[[edit]]\nverb = 'relabel'\nlabels = '/etc/hostname'", "labels of relabel: this name is not followed"),
        ("[[edit]]\nverb = 'relabel'\nlabels = '../labels.txt'", "labels of relabel: this name is not followed"),
        ("[[edit]]\nverb = 'set'\nvalue = { npz = '/etc/x.npz', key = 'a' }", "arrays: this name is not followed"),
        ("[[edit]]\nverb = 'set'\nvalue = { npz = 3, key = 'a' }", "arrays: this name is not followed"),
        ("[[edit]]\nverb = 'set'\nvalue = { npz = 'a.npz', key = 3 }", "value.key is a whole number"),
        ("[[edit]]\nverb = 'set'\nvalue = { npz = 'bad.npz', key = 'a' }", "File is not a zip file"),
        ("[[edit]]\nverb = 'set'\nvalue = { npz = 'good.npz', key = 'b' }", r"it holds no 'b\.npy'"),
    ],
)
def test_a_script_that_reaches_too_far_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.npz").write_bytes(b"not an archive")
    np.savez(tmp_path / "good.npz", a=np.ones(3))
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(EditError, match=words):
        read_script(tmp_path / "a.toml")


def test_labels_of_a_script_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "a.toml").write_text("version = 1\n[[edit]]\nverb = 'relabel'\nlabels = 'labels.txt'")
    (step,) = read_script(tmp_path / "a.toml")
    assert step.arguments["labels"] == str((tmp_path / "labels.txt").resolve())


def test_a_line_with_an_open_quote_is_told() -> None:
    with pytest.raises(EditError, match="No closing quotation"):
        parse("rename 'a b")
