"""A conversion held against another source than it was made from, which calls other values the same."""

from __future__ import annotations

from pathlib import Path

from coreproof.conversion.convert import convert
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
