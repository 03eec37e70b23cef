"""A difference as edits: carried out on the one version they give the other, and what they cannot say is listed."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.difference.diff import diff
from coreproof.errors import InputError
from coreproof.feeding.drawn import random_sample
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.difference.test_diff import chain

FORMATS = ("onnx", "neuralnetwork", "mlprogram")


def version(operators: str, form: str, seed: int = 0) -> Model:
    source = chain(operators, seed=seed)
    return source if form == "onnx" else cp.convert(source, form, precision="fp32")


def answers(model: Model) -> np.ndarray:
    fed = {model.graph.inputs[0]: np.random.default_rng(1).standard_normal((1, 6, 8, 8)).astype(np.float32)}
    with session(model) as running:
        return np.asarray(next(iter(running.run(fed).values())))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cr cr cr", "cr s cr cr"),  # a layer more, and every name behind it another one
        ("cr s cr", "cr cr"),  # a layer less
        ("cr s", "cr"),  # the layer that makes the output taken out
        ("cr cr cr", "cr cs cr"),  # another operation in its place
        ("cr t s cr", "cr cr"),
    ],
)
def test_the_edits_give_the_other_version(one: str, other: str, form: str) -> None:
    before, after = version(one, form), version(other, form)
    found = diff(before, after).edits()
    assert found.edits
    assert (found.refused, found.unsaid) == ((), ())
    replayed = cp.edit(before, found.edits).model
    assert not diff(replayed, after)
    np.testing.assert_allclose(answers(replayed), answers(after), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("form", FORMATS)
def test_layers_put_in_before_an_output_compute_what_the_other_version_does(form: str) -> None:
    """In the Core ML formats the layer that made the output cannot lose its name: that is said."""
    before, after = version("cr cr", form), version("cr cr st", form)
    found = diff(before, after).edits()
    assert all("is called" in line for line in found.unsaid)
    np.testing.assert_allclose(answers(found.model), answers(after), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("form", FORMATS)
def test_other_weights_are_set(form: str) -> None:
    before, after = version("cr cr", form), version("cr cr", form, seed=3)
    found = diff(before, after).edits()
    assert [step.verb for step in found.edits] == ["set", "set"]
    assert found.unsaid == ()
    np.testing.assert_allclose(answers(found.model), answers(after), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_said_of_equal_versions(form: str) -> None:
    found = diff(version("cr", form), version("cr", form)).edits()
    assert (found.edits, found.refused, found.unsaid) == ((), (), ())


def test_what_no_edit_can_say_is_listed() -> None:
    before = version("cr", "neuralnetwork")
    assert isinstance(before, CoreMLModel)
    spec = copy.deepcopy(before.spec)
    spec.description.metadata.author = "somebody"
    found = diff(before, CoreMLModel(spec, name="after")).edits()
    assert found.edits == ()
    assert found.unsaid == ("metadata: author: None -> somebody",)


def test_a_wider_network_is_set_and_what_it_stores_otherwise_is_said() -> None:
    source = chain("cr cr")
    single, half = (cp.convert(source, "mlprogram", precision=p) for p in ("fp32", "fp16"))
    found = diff(single, half).edits()
    assert any("stored as float16" in line for line in found.unsaid)
    assert found.unsaid == tuple(dict.fromkeys(found.unsaid))


def test_between_formats_there_are_no_edits() -> None:
    with pytest.raises(InputError, match="within its format"):
        diff(version("cr", "onnx"), version("cr", "mlprogram")).edits()


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    "case", ["catvec_b4_torch110_oc040", "dynreshape_torch110_oc10_ios13", "oneminus_torch110_oc040",
             "padconst_torch110_oc13_ios13", "twohead_cls_torch110_oc040", "upbilinear_torch101_oc040",
             "vggthin_b10_torch110_oc040"],
)  # fmt: skip
def test_a_repair_by_hand_becomes_a_script(shared_data: Path, case: str) -> None:
    folder = shared_data / "legacy" / case
    found = diff(folder / "broken.mlmodel", folder / "repaired.mlmodel").edits()
    assert found.refused == ()
    assert all(line.startswith("metadata: ") for line in found.unsaid)
    repaired = cp.load(folder / "repaired.mlmodel")
    fed = random_sample(repaired.signature, repaired.signature)[0]
    with session(found.model) as one, session(repaired) as other:
        made, right = one.run(fed), other.run(fed)
    for name, value in right.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(made[name], value, rtol=1e-5, atol=1e-6)


def test_an_operator_of_a_foreign_domain_is_no_traceback() -> None:
    before, after = version("cr", "onnx"), version("cr", "onnx")
    assert isinstance(after, OnnxModel)
    node = after.ir.graph.node("layer0")
    node.domain, node.op_type = "somebodys", "Blur"
    after.ir.graph.opset_imports["somebodys"] = 1
    found = diff(before, after).edits()
    assert found.edits or found.unsaid
    assert len(found.refused) + len(found.edits) == 1
