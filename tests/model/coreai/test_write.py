"""Writing an .aimodel: what is read of it is what was written, names included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.model.coreai.element_types import TensorType
from coreproof.model.coreai.locations import location_of, read_location
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram
from coreproof.model.coreai.read import read_program
from coreproof.model.coreai.stored import stored_model
from coreproof.model.coreai.write import write_program
from tests.aimodels import SMALL, assembled, needs_coreai


def test_names_that_are_noted_are_read_again() -> None:
    found = read_location(location_of({0: "first", 1: "layer/second"}))
    assert dict(found.made) == {0: "first", 1: "layer/second"}
    assert found.source is None


@needs_coreai
def test_a_program_is_the_same_behind_a_writing(tmp_path: Path) -> None:
    before = read_program(assembled(tmp_path / "small.aimodel", SMALL))
    write_program(before, tmp_path / "again.aimodel", "small")
    after = read_program(tmp_path / "again.aimodel")
    for one, other in zip(before.functions, after.functions, strict=True):
        assert (one.name, one.private, one.inputs, one.outputs, one.types) == (
            other.name, other.private, other.inputs, other.outputs, other.types,
        )  # fmt: skip
        for a, b in zip(one.block.operations, other.block.operations, strict=True):
            assert (a.name, a.kind, a.operands, a.results, a.attributes) == (
                b.name, b.kind, b.operands, b.results, b.attributes,
            )  # fmt: skip
            np.testing.assert_array_equal(np.asarray(a.constant), np.asarray(b.constant))


@needs_coreai
def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    """Apple's writer notes the second, and its keys in another order in each process."""
    program = read_program(assembled(tmp_path / "small.aimodel", SMALL))
    made = []
    for name in ("one", "two"):
        write_program(program, tmp_path / name / "made.aimodel", "made")
        folder = tmp_path / name / "made.aimodel"
        made.append({str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()})
    assert made[0] == made[1]
    assert {"main.mlirb", "metadata.json"} <= made[0].keys()


def _halves(length: int, kind: str = "coreai.split") -> StoredProgram:
    made = ("left", "add_1")
    operations = (
        StoredOperation("sizes", "coreai.constant", (), ("sizes",), constant=np.full(2, length, np.uint32)),
        StoredOperation("axis", "coreai.constant", (), ("axis",), constant=np.array(0, np.int32)),
        StoredOperation("weight", "coreai.constant", (), ("weight",), constant=np.arange(600, dtype=np.float16)),
        StoredOperation("left", kind, ("x", "sizes", "axis"), made),
        StoredOperation("add", "coreai.add", made, ("add",)),
        StoredOperation("sum", "coreai.add", ("add", "weight"), ("sum",)),
        StoredOperation("output", "coreai.output", ("sum",), ()),
    )
    half = TensorType("f16", (600,))
    types = {
        "x": TensorType("f16", (1200,)), "sizes": TensorType("ui32", (2,)), "axis": TensorType("si32", ()),
        **dict.fromkeys(("left", "add_1", "weight", "add", "sum"), half),
    }  # fmt: skip
    return StoredProgram((Function("main", False, {"x": "x"}, {"y": "sum"}, StoredBlock(("x",), operations), types),))


@needs_coreai
def test_several_results_large_weights_and_names_like_those_of_operations_come_back() -> None:
    read = stored_model(_halves(600), name="halves").program.functions[0]
    by_kind = {o.kind: o for o in read.block.operations if o.kind in ("coreai.split",)}
    # "add_1" is noted, so that no addition without a name takes it
    assert by_kind["coreai.split"].results == ("left", "add_1")
    weight = next(o.constant for o in read.block.operations if o.constant is not None and o.constant.size == 600)
    np.testing.assert_array_equal(weight, np.arange(600, dtype=np.float16))


@needs_coreai
def test_what_apple_s_package_does_not_take_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="does not take") as caught:
        write_program(_halves(600, "coreai.nothing"), tmp_path / "x.aimodel", "halves")
    assert "halves" in str(caught.value)
    assert "coreai.nothing" in str(caught.value)
    assert not (tmp_path / "x.aimodel").exists()
