"""Outputs that no layer makes, and outputs that are inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.editing.edit import Edit, edit
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.runtime.open import session
from tests.build import convolution, inner_product, mil, named, network, onnx_net, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired, sample


def heads(output: str, *others: str) -> CoreMLModel:
    """A network with a classifying head of 5 and one of 7, whose outputs are declared by these names."""
    layers = [
        convolution("conv", "x", "c", weights(4, 3, 3, 3)),
        named("pool", "pooling", "c", "p", type="AVERAGE", globalPooling=True),
        named("flat", "flatten", "p", "f"),
        inner_product("five", "f", "a", weights(5, 4, seed=1)),
        inner_product("other", "f", "b", weights(5, 4, seed=2)),
    ]
    count = 1 + len(others)
    return network(layers[: 3 + count], {"x": (3, 6, 6)}, dict.fromkeys((output, *others)))


def onnx_head(output: str) -> Model:
    nodes = [("Relu", "x", "r", {}), ("Gemm", "r w", "a", {}), ("Softmax", "a", "b", {})]
    return onnx_net(nodes, {"x": [1, 4]}, {output: [1, 5]}, w=weights(4, 5))


def renamed(model: CoreMLModel, names: dict[str, str]) -> CoreMLModel:
    """The program with its outputs renamed in the description alone, as coremltools' rename_feature can leave it."""
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    for feature in spec.description.output:
        feature.name = names.get(feature.name, feature.name)
    return model.with_spec(spec)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    def build(mb: Any, x: Any) -> Any:
        y = mb.linear(x=mb.relu(x=x, name="r"), weight=weights(5, 4), name="y")
        return mb.softmax(x=y, axis=-1, name="p"), mb.linear(x=x, weight=weights(7, 4), name="z")

    return mil(tmp_path_factory.mktemp("program"), build, (1, 4))


def test_a_network_output_renamed_in_the_description_alone() -> None:
    assert_repaired(heads("scores"), heads("a"), "missing-output", None)


def test_an_onnx_output_that_no_node_makes() -> None:
    assert_repaired(onnx_head("scores"), onnx_head("b"), "missing-output", None)


def test_a_program_output_renamed_in_the_description_alone(program: CoreMLModel) -> None:
    assert_repaired(renamed(program, {"p": "scores"}), program, "missing-output", None)


def test_two_program_outputs_are_told_apart_by_their_shapes(program: CoreMLModel) -> None:
    diagnosis = diagnose(renamed(program, {"p": "scores", "z": "boxes"}))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("missing-output", True)] * 2
    assert diagnosis.repaired is not None
    assert diagnose(diagnosis.repaired, program).healthy


def test_of_two_values_that_fit_the_source_says_which_is_meant() -> None:
    healthy, broken = heads("a", "b"), heads("first", "second")
    alone = diagnose(broken)
    assert {(f.rule, f.repaired) for f in alone} == {("missing-output", False), ("dead-layers", False)}
    assert "--against SOURCE" in next(f.repair for f in alone if f.rule == "missing-output")
    diagnosis = diagnose(broken, healthy)
    assert [f.rule for f in diagnosis if f.repaired] == ["missing-output"]
    assert [str(e) for f in diagnosis for e in f.edits] == [
        "produce output first, value a",
        "produce output second, value b",
    ]
    assert diagnosis.repaired is not None
    assert diagnose(diagnosis.repaired, healthy).healthy


def test_without_a_value_that_fits_nothing_is_guessed(program: CoreMLModel) -> None:
    broken = edit(renamed(program, {"p": "scores"}), [Edit("delete", {"layer": "p", "reconnect": False})], check=False)
    diagnosis = diagnose(edit(broken.model, [Edit("delete", {"layer": "y", "reconnect": False})], check=False).model)
    assert "missing-output" in [f.rule for f in diagnosis]
    assert diagnosis.repaired is None


def test_produce_is_for_outputs_that_lack_a_layer(program: CoreMLModel) -> None:
    with pytest.raises(EditError, match="no output that lacks a layer"):
        edit(program, [Edit("produce", {"output": "p", "value": "y"})])
    with pytest.raises(EditError, match="cannot become the output"):
        edit(renamed(program, {"p": "scores"}), [Edit("produce", {"output": "scores", "value": "z"})])


def test_the_repaired_file_is_what_is_written(program: CoreMLModel, tmp_path: Path) -> None:
    repaired = diagnose(renamed(program, {"p": "scores"})).repaired
    assert repaired is not None
    assert diagnose(repaired.save(tmp_path / "repaired.mlpackage"), program).healthy


# outputs that are inputs


def handed_through(program: CoreMLModel, name: str) -> CoreMLModel:
    """The program with its output z taken from the input of that name."""
    spec = type(program.spec)()
    spec.CopyFrom(program.spec)
    function = next(iter(spec.mlProgram.functions.values()))
    block = function.block_specializations[function.opset]
    block.outputs[:] = [name if output == "z" else output for output in block.outputs]
    feature = next(f for f in spec.description.output if f.name == "z")
    feature.CopyFrom(spec.description.input[0])
    return program.with_spec(spec)


def test_a_program_that_hands_an_input_through(program: CoreMLModel) -> None:
    diagnosis = diagnose(handed_through(program, program.graph.inputs[0]))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("output-is-input", True)]
    assert diagnosis.repaired is not None
    name = f"{program.graph.inputs[0]}_out"
    assert [f.name for f in diagnosis.repaired.signature.outputs] == ["p", name]
    fed = sample(diagnosis.repaired)
    with session(diagnosis.repaired) as running:
        made = running.run(fed)
    np.testing.assert_array_equal(made[name], next(iter(fed.values())))


def test_a_network_that_hands_an_input_through() -> None:
    layers = [convolution("conv", "x", "y", weights(4, 3, 3, 3))]
    diagnosis = diagnose(network(layers, {"x": (3, 6, 6)}, {"y": None, "x": (3, 6, 6)}))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("output-is-input", True)]
    assert diagnosis.repaired is not None
    fed = sample(diagnosis.repaired)
    with session(diagnosis.repaired) as running:
        np.testing.assert_array_equal(running.run(fed)["x_out"].reshape(-1), next(iter(fed.values())).reshape(-1))


def test_an_onnx_model_may_hand_an_input_through() -> None:
    assert_healthy(onnx_net([("Relu", "x", "y", {})], {"x": [1, 3]}, {"x": [1, 3], "y": [1, 3]}))


def test_an_output_that_is_no_number_whatever_is_fed_is_found_without_a_source() -> None:
    nodes = [("Abs", "x", "a", {}), ("Neg", "a", "b", {}), ("Sub", "b one", "c", {}), ("Log", "c", "l", {})]
    model = onnx_net([*nodes, ("Relu", "l", "y", {})], {"x": [1, 4]}, {"y": [1, 4]}, one=np.float32(1))
    diagnosis = diagnose(model)
    (finding,) = diagnosis
    assert (finding.rule, finding.layer, diagnosis.healthy) == ("not-finite", "to_l", False)
    assert "output 'y' is NaN" in finding.evidence
    assert "'l', of Log" in finding.evidence


def test_an_output_with_numbers_beside_infinities_is_no_finding() -> None:
    model = onnx_net([("Max", "x low", "y", {})], {"x": [1, 4]}, {"y": [1, 4]}, low=np.float32([-np.inf, 0, 0, 0]))
    assert_healthy(model)
