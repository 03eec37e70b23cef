"""``coreproof check``: exit 0 where a model converts, 1 where it does not, with all that stands in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx, onnx_proto
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    nodes = [onnx.helper.make_node("Frobnicate", ["x"], ["y"], name="the node", domain="strange")]
    proto = onnx_proto(nodes, {"x": [2]}, {"y": [2]})
    proto.opset_import.append(onnx.helper.make_opsetid("strange", 1))
    onnx.save(proto, tmp_path / "strange.onnx")
    return tmp_path / "strange.onnx"


def test_a_model_that_converts_ends_with_0_and_nothing_is_written(coreproof: Run, tmp_path: Path) -> None:
    net = OnnxModel(conv_relu_onnx(), name="net").save(tmp_path / "net.onnx")
    for words in ((), ("--to", "neuralnetwork"), ("--target", "iOS16", "--precision", "fp32", "--batch", "1-4")):
        ran = coreproof("check", net, *words)
        assert ran.code == 0, ran.err
        assert "converts" in ran.out
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_model_that_does_not_convert_ends_with_1_and_says_where(coreproof: Run, strange: Path) -> None:
    ran = coreproof("check", strange, "--target", "iOS18")
    assert ran.code == 1
    for said in (
        "an ML Program for iOS18",
        "strange:Frobnicate is not lowered",
        "node 'the node'",
        "what to do",
        "what would do",
    ):
        assert said in ran.out
    document = json.loads(coreproof("check", strange, "--json").out)
    assert document["converts"] is False
    assert document["obstacles"][0]["where"] == "node 'the node'"


def test_words_that_make_no_sense_end_with_2(coreproof: Run, strange: Path) -> None:
    assert coreproof("check", strange, "--to", "coreml").code == 2
    assert coreproof("check", strange, "--target", "iOS99").code == 2
    assert coreproof("check", strange.with_name("none.onnx")).code == 2
