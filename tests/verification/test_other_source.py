"""A conversion held against another source than it was made from, which calls other values the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreproof.conversion.convert import convert
from coreproof.editing.submodels.open import submodel_builder
from coreproof.editing.submodels.submodel import Submodel
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.recording import record
from coreproof.verification.verify import verify
from tests.build import graph_model, weights


def scores(product: str, total: str, factor: float = 1.0) -> OnnxModel:
    text = f"""net (float[4, 8] x) => (float[4, 8] y) {{
        {product} = MatMul(x, w)
        {total} = Add({product}, b)
        y = Sigmoid({total})
    }}"""
    return graph_model(text, w=weights(8, 8) * factor, b=weights(8, seed=1))


def test_provenance_of_another_source_pairs_nothing_in_memory_as_in_a_file(tmp_path: Path) -> None:
    made = convert(scores("one", "two"), "mlprogram", precision="fp32")
    other = scores("two", "one")
    made.save(tmp_path / "made.mlpackage")
    in_memory, in_file = verify(other, made), verify(other, load(tmp_path / "made.mlpackage"))
    assert in_memory
    assert in_file
    assert "provenance" not in {row.how for row in in_memory.rows}


def test_provenance_is_believed_of_its_own_source_read_anew_with_other_weights_and_of_a_run_of_it(
    tmp_path: Path,
) -> None:
    source = scores("one", "two")
    source.save(tmp_path / "net.onnx")
    made = convert(source, "mlprogram", precision="fp32")
    again = load(tmp_path / "net.onnx")
    run = record(again, tmp_path / "run.npz")
    for reference in (source, again, run, convert(again, "mlprogram", precision="fp16")):
        found = verify(reference, made)
        assert found
        assert "provenance" in {row.how for row in found.rows}
    # a changed weight changes what values are, and not which they are: where it begins can be told
    changed = verify(scores("one", "two", factor=1.1), made)
    assert not changed
    assert "provenance" in {row.how for row in changed.rows}


@pytest.mark.parametrize("weighed", [False, True])
def test_a_part_of_a_conversion_knows_of_which_graph_its_provenance_was_noted(weighed: bool) -> None:
    text = """net (float[4, 8] x) => (float[4, 8] y) {
        one = Tanh(x)
        two = Sigmoid(one)
        y = %s
    }"""
    end = "MatMul(two, w)" if weighed else "Exp(two)"
    source = graph_model(text % end, **({"w": weights(8, 8)} if weighed else {}))
    made = convert(source, "mlprogram", precision="fp32")
    part = submodel_builder(made).build(Submodel())
    assert part.provenance
    assert part.made_from == frozenset({source.graph.outline})


CHAIN = """net (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) {{
    {} = Conv(x, w)
    {} = Relu({})
    {} = Mul({}, k)
    y = Conv({}, v)
}}"""


def chain_called(names: str, factor: float = 1.0) -> OnnxModel:
    one, two, three = names
    text = CHAIN.format(one, two, one, three, two, three)
    return graph_model(
        text, w=weights(4, 4, 1, 1), k=weights(1, 4, 1, 1, seed=5), v=factor * weights(4, 4, 1, 1, seed=3)
    )


@pytest.mark.parametrize("to", ["neuralnetwork", "mlprogram"])
def test_names_that_moved_along_a_chain_pair_nothing_at_any_of_its_steps(to: str, tmp_path: Path) -> None:
    made = convert(chain_called("pqr"), to, **({"precision": "fp32"} if to == "mlprogram" else {}))
    path = tmp_path / ("made.mlpackage" if to == "mlprogram" else "made.mlmodel")
    made.save(path)
    for names in ("prq", "qpr", "qrp", "rpq", "rqp"):
        assert verify(chain_called(names), load(path)), names
    # a fault of the chain's end is seen all the same
    assert not verify(chain_called("qrp", factor=1.01), load(path))
