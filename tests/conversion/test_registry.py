"""What is said of an operator where it is registered is what every room knows of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conformance.apple import operator_table
from onnx import TensorProto, helper, numpy_helper

import coreproof
from coreproof.conversion import registry
from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand
from coreproof.conversion.coreml_to_onnx.rounding import commutes, rounds
from coreproof.conversion.operators import (
    LAYERS,
    MIL,
    ONNX,
    PYTORCH,
    canonical_op,
    default,
    error_class,
    meaning,
    several,
)
from coreproof.conversion.registry import Registry
from coreproof.editing.edit import Edit, edit
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats.program import MIL_DTYPES
from coreproof.model.onnx.model import OnnxModel
from coreproof.pairing.operators import makes_steps


@pytest.fixture
def at_liberty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered in the test is forgotten behind it."""
    MIL.load()
    for book in ("_handlers", "_traits"):
        monkeypatch.setattr(MIL, book, {name: dict(said) for name, said in getattr(MIL, book).items()})
    monkeypatch.setattr(registry, "_MEANINGS", {name: said.copy() for name, said in registry._MEANINGS.items()})
    for kept in (meaning, canonical_op):
        kept.cache_clear()
    yield
    for kept in (meaning, canonical_op):
        kept.cache_clear()


@pytest.mark.usefixtures("at_liberty")
def test_a_new_mil_operation_is_known_everywhere_by_its_handler_alone(tmp_path: Path) -> None:
    @MIL.lowers("round_up_all", since="iOS16", exact=True, error="move", steps=True, wide=("edge",), variadic="values")
    def round_up_all(low: Lowering, *, values: tuple[Operand, ...], edge: Operand = 0.5) -> ir.Value:
        return low.op("Ceil", low.op("Max", *values, low.op("Identity", edge)))

    # rounding and verification
    assert not rounds("round_up_all")
    assert not commutes("round_up_all")
    assert error_class("round_up_all") == "move"
    assert makes_steps("roundUpAll"), "however it is spelled"
    assert several("round_up_all") == ("values",)
    # documentation
    assert "| `round_up_all` | iOS16 | no test | no test |" in operator_table([])
    # editing, and lowering what was edited
    added = {"operator": "round_up_all", "name": "up", "after": "r", "edge": 1.5}
    grown = edit(half_program(tmp_path), [Edit("insert", added)]).model
    assert isinstance(grown, CoreMLModel)
    operation = next(o for o in operations(grown) if o.type == "round_up_all")
    assert [b.name for b in operation.inputs["values"].arguments] == ["r"]
    assert stored_dtype(grown, operation, "edge") == "float32", (
        "its float16 neighbours do not narrow what is always wide"
    )
    assert "Ceil" in [node.op_type for node in coreml_to_onnx(grown).model.graph]


def test_a_scale_of_regions_stays_wide_in_a_float16_program(tmp_path: Path) -> None:
    boxes = np.array([[1.0, 1.0, 3.0, 3.0]], np.float32)
    added = {"operator": "crop_resize", "name": "regions", "after": "r", "before": [], "spatial_scale": 0.5}
    inputs = {"x": "r", "boxes": "boxes"}
    model = half_program(tmp_path, boxes)
    grown = edit(model, [Edit("insert", {**added, "inputs": inputs})]).model
    assert isinstance(grown, CoreMLModel)
    operation = next(o for o in operations(grown) if o.type == "crop_resize")
    assert stored_dtype(grown, operation, "spatial_scale") == "float32"


def half_program(folder: Path, boxes: np.ndarray | None = None) -> CoreMLModel:
    """A float16 program y = relu(x) * 2, the rectified value called r; and a constant that is read."""
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Mul", ["r", "two"], ["y"])]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])]
    if boxes is not None:
        given.append(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, boxes.shape))
        nodes.append(helper.make_node("Neg", ["boxes"], ["z"]))
        made.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, boxes.shape))
    two = [numpy_helper.from_array(np.array([2.0], np.float32), "two")]
    proto = helper.make_model(
        helper.make_graph(nodes, "net", given, made, two),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = folder / "half.mlpackage"
    coreproof.convert(OnnxModel(ir.from_proto(proto), name="net"), "mlprogram", precision="fp16", target="iOS17").save(
        path
    )
    model = coreproof.load(path)
    assert isinstance(model, CoreMLModel)
    return model


def operations(model: CoreMLModel) -> list[Any]:
    function = model.spec.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def stored_dtype(model: CoreMLModel, operation: Any, key: str) -> str:
    """The dtype of the constant that an argument reads."""
    name = operation.inputs[key].arguments[0].name
    constant = next(o for o in operations(model) if any(output.name == name for output in o.outputs))
    return MIL_DTYPES[constant.outputs[0].type.tensorType.dataType]


def test_an_operator_is_described_once() -> None:
    one = Registry("one")
    one.lowers("twist", error="move")(lambda: None)
    with pytest.raises(ValueError, match="Twist: error is said to be 'move' and 'add'"):
        Registry("another").describe("Twist", error="add")
    with pytest.raises(ValueError, match="twist is lowered twice"):
        one.lowers("twist")(lambda: None)


def test_a_newer_form_of_an_operator_keeps_what_was_said_of_the_first() -> None:
    own = Registry("own", first=15)
    own.lowers("fold_over", wide=("scale",))(lambda: 15)
    own.lowers("fold_over", since="iOS17")(lambda: 17)
    assert own.versions("fold_over") == (15, 17)
    assert own.traits("fold_over") == {"wide": ("scale",)}
    assert own.find("fold_over", 16)() == 15  # type: ignore[misc]
    assert own["fold_over"]() == 17
    assert own.find("fold_over", 1)() == 15, "a version before the first is read as the first"  # type: ignore[misc]
    assert own.find("unheard_of") is None


@pytest.mark.parametrize("known", [ONNX, MIL, LAYERS, PYTORCH], ids=lambda known: known.name)
def test_a_word_leads_to_itself(known: Registry) -> None:
    """An operator that is called by another's word has that one's word, not a third."""
    for operator in [*known, *known._traits]:
        assert canonical_op(canonical_op(operator)) == canonical_op(operator)


def test_verification_asks_without_coremltools_and_pytorch() -> None:
    code = (
        "import sys\nfrom coreproof.conversion.operators import error_class\nassert error_class('conv') == 'linear'\n"
    )
    code += "print([m for m in ('torch', 'coremltools', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_what_coremltools_types_float32_alone_is_always_wide() -> None:
    """And what it binds to several values is said to be a tuple, in every version of every operation."""
    pytest.importorskip("coremltools")
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.input_type import TensorInputType, TupleInputType
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    wide: dict[str, set[str]] = {}
    tuples: dict[str, set[str]] = {}
    for operation in MIL:
        for version in SSAOpRegistry.core_ops.get(operation, {}).values():
            for name, kind in version.input_spec.input_types.items():
                if isinstance(kind, TupleInputType):
                    tuples.setdefault(operation, set()).add(name)
                if not isinstance(kind, TensorInputType) or not kind.const or MIL.traits(operation).get("passes_on"):
                    continue
                domain = version.type_domains.get(kind.type_domain_id) if kind.type_domain_id else kind.type_domain
                accepted = {types.builtin_to_string(dtype) for dtype in domain or ()}
                if "fp32" in accepted and "fp16" not in accepted:
                    wide.setdefault(operation, set()).add(name)
    # recurrent layers of iOS15 take no float16 at all; those of iOS17 take it everywhere
    wide = {operation: names for operation, names in wide.items() if operation not in ("lstm", "gru", "rnn")}
    assert "spatial_scale" in wide["crop_resize"]
    assert wide == {o: set(MIL.traits(o)["wide"]) for o in MIL if "wide" in MIL.traits(o)}
    assert tuples == {o: set(several(o)) for o in MIL if several(o)}


def test_a_parameter_that_a_file_does_not_say_is_what_its_own_format_defines() -> None:
    assert [default(o, "axis") for o in ("ArgMax", "argMax", "reduce_argmax", "topK", "topk")] == [0, 0, -1, 0, -1]
    assert default("ArgMax", "no such parameter") is None
    assert default("aten.argmax.default", "axis") is None
