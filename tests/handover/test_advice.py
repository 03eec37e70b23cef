"""advise: Core ML, Core AI or both, with each fact that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import coreproof as cp
from coreproof.errors import InputError
from coreproof.handover.advice import Advice
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2
from tests.build import conv_relu_onnx, mil, onnx_net
from tests.build.programs import counter
from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof


def against(found: Advice, framework: str) -> list[str]:
    return [fact.text for fact in found.facts if fact.framework == framework and not fact.speaks_for]


@pytest.mark.parametrize(
    ("min_ios", "verdict"), [(15, "both"), (17, "both"), (26, "both"), (27, "coreai"), (28, "coreai")]
)
def test_a_plain_network_goes_both_ways(min_ios: int, verdict: str) -> None:
    found = cp.advise(conv_relu_onnx(), min_ios)
    assert (found.verdict, found.coreai) == (verdict, True)
    assert found.coreml_since is not None
    assert found.coreml_since <= min_ios
    assert bool(against(found, "coreai")) == (min_ios < 27)
    assert not against(found, "coreml")


def test_what_core_ai_has_no_place_for_speaks_for_core_ml(tmp_path: Path) -> None:
    pixels = onnx_net([("Relu", "x", "y", {})], {"x": [1, 3, 4, 4]}, {"y": [1, 3, 4, 4]})
    picture = cp.convert(pixels, "mlprogram", images={"x": cp.ImageInput()}, target="iOS16", check=False)
    found = cp.advise(picture, 27)
    assert (found.verdict, found.coreai, found.coreml_since) == ("coreml", True, 16)
    (fact,) = (fact for fact in found.facts if fact.kind == "declared")
    assert (fact.framework, fact.where, fact.speaks_for) == ("coreai", "x", False)
    assert fact.to_do is not None
    assert "4x4" in fact.to_do


def test_operations_without_a_translation_are_named(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        return mb.add(x=mb.random_normal(shape=[2, 3], mean=0.0, stddev=1.0, seed=1, name="noise"), y=x)

    found = cp.advise(mil(tmp_path, build, (2, 3)), 27)
    assert (found.verdict, found.coreai) == ("coreml", False)
    assert any("random_normal" in text for text in against(found, "coreai"))
    assert any(fact.where is not None and "noise" in fact.where for fact in found.facts)


def test_states_need_ios_18_and_are_said(tmp_path: Path) -> None:
    found = cp.advise(counter(tmp_path / "c.mlpackage"), 17)
    assert (found.verdict, found.coreml_since) == ("coreml", 18)
    assert "iOS 18" in found.text
    assert {(fact.framework, fact.speaks_for) for fact in found.facts if fact.kind == "states"} == {
        ("coreml", False),
        ("coreai", True),
    }
    assert cp.advise(tmp_path / "c.mlpackage", 18).verdict == "both"


def test_an_estimator_stays_with_core_ml() -> None:
    spec = Model_pb2.Model(specificationVersion=1)
    spec.glmRegressor.weights.add().value.extend([0.5, -1.0])
    spec.glmRegressor.offset.append(0.25)
    spec.description.predictedFeatureName = "y"
    given = spec.description.input.add(name="x")
    given.type.multiArrayType.shape.append(2)
    given.type.multiArrayType.dataType = 65568
    spec.description.output.add(name="y").type.doubleType.SetInParent()
    found = cp.advise(CoreMLModel(spec, name="line"), 27)
    assert (found.verdict, found.coreml_since) == ("coreml", 11)
    assert any(fact.kind == "kind" and fact.framework == "coreai" for fact in found.facts)


def test_neither_takes_what_neither_can_express(coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("NoSuchThing", ["x"], ["y"], domain="nobody")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), tmp_path / "odd.onnx")
    ran = coreproof("advise", tmp_path / "odd.onnx", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["verdict"], told["coreml_since"], told["coreai"]) == (1, "neither", None, False)
    assert (told["format"], told["version"]) == ("coreproof advice", 1)


def test_the_verb_says_each_fact_in_a_line(coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    import onnx_ir as ir

    ir.save(conv_relu_onnx(), tmp_path / "net.onnx")
    ran = coreproof("advise", tmp_path / "net.onnx")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith("net: Core ML for all of iOS 17 and later")
    assert "  + Core AI  every operation has a translation" in lines
    with pytest.raises(InputError, match="min_ios"):
        cp.advise(tmp_path / "net.onnx", 3)
    assert np.all([line.startswith(("  + ", "  - ", "      what")) for line in lines[1:]])


def test_known_faults_of_the_form_that_would_ship_are_named(tmp_path: Path) -> None:
    places = np.zeros((2, 1), np.int64)
    gather = onnx_net(
        [("GatherND", "x i", "y", {})], {"x": [3, 4], "i": (TensorProto.INT64, places.shape)}, {"y": [2, 4]}
    )
    known = [fact for fact in cp.advise(gather, 17).facts if fact.kind == "known" and fact.framework == "coreml"]
    assert [fact.speaks_for for fact in known] == [False]
    assert "computed-gather-nd" in known[0].text
    assert "microsoft/onnxruntime#28598" in known[0].text
    assert known[0].to_do is not None
    # and of a Core ML model itself, which is not converted anew
    stored = cp.convert(gather, "mlprogram", check=False)
    assert [
        fact.text for fact in cp.advise(stored, 17).facts if fact.kind == "known" and fact.framework == "coreml"
    ] == [fact.text for fact in known]
    # a softplus is converted to the form that is known to be good
    softplus = onnx_net([("Softplus", "x", "y", {})], {"x": [1, 4]}, {"y": [1, 4]})
    for plain in (conv_relu_onnx(), softplus):
        assert not [fact for fact in cp.advise(plain, 17).facts if fact.kind == "known"]


@pytest.mark.parametrize(
    ("min_ios", "told"),
    [
        (17, "every operation is there from iOS 17 on"),
        (99, "every operation is there, in the form of iOS 26, which later systems read too"),
    ],
)
def test_operations_are_there_on_the_systems_that_were_asked_for(min_ios: int, told: str) -> None:
    facts = cp.advise(conv_relu_onnx(), min_ios).facts
    assert told in [fact.text for fact in facts if fact.framework == "coreml" and fact.kind == "operations"]
