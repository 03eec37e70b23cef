"""Free lengths that are equal when the model runs, whatever MIL knows of them: told by their names, or measured."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import graph_model, weights
from tests.conversion.onnx_to_coreml.one_node import convert_node

TABLE = weights(1, 40)
FREE = {"x": ["1..3", "2..32"]}


def positions(named: str = "") -> OnnxModel:
    """Rows of x, each with the first numbers of a table added: exporters expand them to the shape of x first."""
    return graph_model(
        f"""net (float[b, n] x) => (float[b, n] y) {named} {{
            size = Shape (x)
            length = Slice (size, one, two)
            part = Slice (table, zero, length, one)
            wide = Expand (part, size)
            y = Add (x, wide)
        }}""",
        table=TABLE,
        zero=np.array([0]),
        one=np.array([1]),
        two=np.array([2]),
    )


def run(model: CoreMLModel, **fed: np.ndarray) -> np.ndarray:
    with session(model) as running:
        return np.asarray(running.run(fed)["y"])


@pytest.mark.parametrize("named", ["", "<float[1, n] part>"])
def test_what_is_cut_to_a_free_length_is_expanded_to_it(named: str) -> None:
    converted = convert_node(positions(named), "mlprogram", "iOS15", shapes=FREE)
    for shape in ((1, 2), (2, 7), (3, 32)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(run(converted, x=x), x + TABLE[:, : shape[1]], rtol=1e-6)


def test_lengths_of_one_name_are_one_length_in_the_program() -> None:
    repeated = [
        [n.operator for n in convert_node(positions(named), "mlprogram", "iOS15", shapes=FREE).graph.nodes]
        for named in ("", "<float[1, n] part>")
    ]
    assert [ops.count("floor_div") for ops in repeated] == [1, 0]


def test_a_name_that_lies_about_an_inputs_length_is_not_believed() -> None:
    model = graph_model(
        "net (float[a] x, float[b] z) => (float[c] y) <float[a] twice> { twice = Concat <axis = 0> (z, z)  y = Neg (twice) }"
    )
    converted = convert_node(model, "mlprogram", "iOS15", shapes={"x": ["1..8"], "z": ["1..8"]})
    z = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(run(converted, x=np.zeros(2, np.float32), z=z), -np.concatenate([z, z]))


def test_a_reshape_to_several_lengths_that_are_computed() -> None:
    model = graph_model(
        """net (float[b, n, 6] x) => (float[b, m, 2, 3] y) {
            size = Shape (x)
            rows = Slice (size, zero, one)
            columns = Slice (size, one, two)
            half = Div (columns, two)
            shape = Concat <axis = 0> (rows, half, two, six)
            y = Reshape (x, shape)
        }""",
        zero=np.array([0]),
        one=np.array([1]),
        two=np.array([2]),
        six=np.array([6]),
    )
    converted = convert_node(model, "mlprogram", "iOS15", shapes={"x": ["1..3", "2..8", 6]})
    for rows, columns in ((1, 2), (3, 8)):
        x = np.random.default_rng(1).normal(size=(rows, columns, 6)).astype(np.float32)
        np.testing.assert_array_equal(run(converted, x=x), x.reshape(rows, columns // 2, 2, 6))
