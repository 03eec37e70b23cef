"""What is left of a model is the fault, and little else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.doctor.divergence import Divergence, clashing, fatal_problem
from coreproof.editing.submodels.open import submodel_builder
from coreproof.editing.submodels.submodel import Submodel
from coreproof.errors import InputError, RunError
from coreproof.model.base import Model
from coreproof.model.load import load
from coreproof.reduction.shrink import Search, shrink
from coreproof.runtime.open import session
from coreproof.validation.validate import inspect
from tests.difference.test_diff import chain

LONG = "crcrcrcrcr crcrcrcrcr crcrcrcrcr crcrcrcrcr "


def operators(model: Model) -> list[str]:
    return [node.operator for node in model.graph.nodes]


def holding(*wanted: str) -> Callable[[Model], bool]:
    return lambda model: set(wanted) <= set(operators(model))


def test_a_fault_in_one_layer_leaves_that_layer() -> None:
    asked = 0

    def test(model: Model) -> bool:
        nonlocal asked
        asked += 1
        return "Tanh" in operators(model)

    small = cp.shrink(chain(LONG + "t" + LONG), test)
    assert operators(small) == ["Tanh"]
    assert [f.name for f in small.signature.inputs] == ["v39"]
    assert asked < 25


def test_a_fault_of_two_layers_far_apart_leaves_those_two() -> None:
    small = shrink(chain("crcr t " + LONG + "s crcr"), holding("Tanh", "Sigmoid"))
    assert operators(small) == ["Tanh", "Sigmoid"]


def test_where_no_layer_may_be_skipped_the_model_falls_into_parts() -> None:
    search = Search(submodel_builder(chain("cr t cr s cr")), holding("Tanh", "Sigmoid"), skip=False)
    small = search.run()
    assert operators(small) == ["Tanh", "Sigmoid"]
    assert search.submodel.bypassed == ()
    assert len(small.signature.inputs) == len(small.signature.outputs) == 2


def test_a_part_runs_and_what_is_not_wrong_with_the_whole_is_not_wrong_with_it() -> None:
    small = shrink(chain("cr t cr"), holding("Conv", "Tanh"))
    assert inspect(small).problems == ()
    (feature,) = small.signature.inputs
    assert feature.shape == (1, 6, 1, 1)
    with session(small) as running:
        running.run({feature.name: np.zeros((1, 6, 1, 1), np.float32)})


def test_the_same_answer_each_time() -> None:
    searches = [Search(submodel_builder(chain("cr t crs cr")), holding("Tanh", "Sigmoid")) for _ in range(2)]
    assert operators(searches[0].run()) == operators(searches[1].run())
    assert searches[0].submodel == searches[1].submodel
    assert searches[0].tests == searches[1].tests


def test_a_model_without_the_fault_is_refused() -> None:
    with pytest.raises(InputError, match="does not show the fault"):
        shrink(chain("cr"), holding("Tanh"))


def test_a_candidate_that_does_not_run_shows_another_fault() -> None:
    def test(model: Model) -> bool:
        if len(operators(model)) < 3:
            raise RunError("the engine refuses it")
        return "Tanh" in operators(model)

    assert len(operators(shrink(chain("cr t cr"), test))) == 3


def test_a_search_that_was_stopped_goes_on_where_it_was() -> None:
    kept: list[Submodel] = []
    budget = 4

    def impatient(model: Model) -> bool:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise KeyboardInterrupt
        return "Tanh" in operators(model)

    model = chain(LONG + "t" + LONG)
    first = Search(submodel_builder(model), impatient, keep=lambda _, submodel: kept.append(submodel))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert kept
    second = Search(
        submodel_builder(model), holding("Tanh"), submodel=kept[-1], tried=dict(first.tried), known_faulty=True
    )
    assert operators(second.run()) == ["Tanh"]
    assert second.tests < Search(submodel_builder(model), holding("Tanh")).tests + 25


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("case", "left"),
    [
        ("rn50thin_b32_torch110_oc040", ["501", "502"]),
        ("vggthin_b10_torch110_oc040", ["38"]),
        ("padconst_torch110_oc13_ios13", ["5", "6"]),
        ("dynreshape_torch110_oc10_ios13", ["17", "19_load_constant_1", "19"]),
        ("oneminus_torch110_oc040", ["8"]),
    ],
)
def test_what_keeps_a_model_from_running_is_what_is_left(shared_data: Path, case: str, left: list[str]) -> None:
    model = load(shared_data / "legacy" / case / "broken.mlmodel")
    problem = fatal_problem(model)
    assert problem is not None
    whole = submodel_builder(model)
    clash = clashing(whole, problem)
    search = Search(whole, lambda _: True, feedable=lambda name: name not in clash, problem=problem, known_faulty=True)
    assert [node.name for node in search.run().graph.nodes] == left


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("case", "left"),
    [
        ("upbilinear_torch101_oc040", ["8"]),
        (
            "dethead_b4_torch110_oc040",
            ["25", "36", "37_input_transpose0", "37_input_transpose1", "37", "37_output_transpose0"],
        ),
    ],
)
def test_a_divergence_is_cut_out_and_still_one(shared_data: Path, case: str, left: list[str]) -> None:
    folder = shared_data / "legacy" / case
    model = load(folder / "broken.mlmodel")
    with Divergence(model, load(folder / "model.onnx")) as divergence:
        small = shrunk(model, divergence)
        assert [node.name for node in small.graph.nodes] == left
        values = divergence.evidence(small)
    fed = {name: value for name, value in values.items() if not name.startswith("expected ")}
    with session(small) as running:
        made = running.run(fed)
    for name, value in made.items():
        right = values[f"expected {name}"]
        assert np.max(np.abs(np.asarray(value).reshape(right.shape) - right)) > 0.01


def shrunk(model: Model, divergence: Divergence) -> Model:
    whole = submodel_builder(model)
    return Search(
        whole,
        divergence.still_faulty,
        feedable=divergence.feedable,
        observable=divergence.observable,
        starts=divergence.starts(whole),
        skip=False,
        resize=False,
    ).run()


def test_a_weight_that_is_wrong_is_what_is_left() -> None:
    source, model = chain(LONG), chain(LONG)
    weight = model.ir.graph.initializers["w20"]
    assert weight.const_value is not None
    weight.const_value = ir.Tensor(weight.const_value.numpy().transpose(1, 0, 2, 3).copy(), name="w20")
    with Divergence(model, source) as divergence:
        assert [node.name for node in shrunk(model, divergence).graph.nodes] == ["layer20"]


def test_no_divergence_is_refused() -> None:
    with pytest.raises(InputError, match="agrees with the source"):
        Divergence(chain("cr"), chain("cr"))


def test_a_picture_is_not_made_smaller_than_the_window_that_reads_it(shared_data: Path) -> None:
    """ONNX Runtime ends the process when pooling has nothing to pool."""
    small = shrink(shared_data / "coreml" / "Apple_SqueezeNetInt8LUT.mlmodel", holding("pooling"))
    assert operators(small) == ["pooling"]
    assert min(inspect(small).shapes[small.signature.outputs[0].name]) > 0
    with session(small) as running:
        (feature,) = small.signature.inputs
        running.run({feature.name: np.zeros(feature.shape or (), np.float32)})


def test_texts_and_values_without_a_type_stay_as_they_are() -> None:
    from conformance.fuzz.cases_onnx import onnx_cases

    stored = onnx.ModelProto.FromString(next(c for c in onnx_cases() if c.name == "stored").files["stored.onnx"])
    part = cp.shrink(cp.load(stored), lambda part: any(n.operator == "Identity" for n in part.graph.nodes))
    assert [n.operator for n in part.graph.nodes] == ["Identity"]
