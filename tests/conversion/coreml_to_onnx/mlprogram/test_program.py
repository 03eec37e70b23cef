"""ML Programs as stored on disk, lowered to ONNX: operations against numpy and PyTorch, rounding, damage, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.conversion.coreml_to_onnx.lowering import handler_for
from coreproof.conversion.operators import MIL
from coreproof.errors import ConversionError, UnreadableModelError, UnsupportedOperatorsError
from coreproof.model.coreml.model import load_coreml
from coreproof.runtime.open import session
from tests.build import mil, program
from tests.conversion.coreml_to_onnx.lowered import only, run
from tests.drawn import RNG, normal


def test_float16_results_are_rounded_as_the_program_stores_them(tmp_path: Path) -> None:
    """40000 + 40000 overflows float16; halving it afterwards cannot bring it back. Ideal arithmetic gives 40000."""
    model = mil(tmp_path, lambda mb, a: mb.mul(x=mb.add(x=a, y=a), y=np.float16(0.5)), (1,), half=True)
    large = np.array([40000], np.float16)
    assert np.isinf(only(run(model, a=large))).all()
    assert only(run(model, "fp32", a=large)) == 40000
    tenth = np.array([0.1], np.float16)
    by_hand = np.float16(np.float16(tenth[0] + tenth[0]) * np.float16(0.5))
    assert only(run(model, a=tenth)) == by_hand


def test_rounding_follows_numpy_step_by_step(tmp_path: Path) -> None:
    x, y = (RNG.normal(size=64).astype(np.float16) for _ in range(2))

    def build(mb: object, a: object, b: object) -> object:
        product = mb.mul(x=a, y=b)  # type: ignore[attr-defined]
        return mb.sub(x=mb.add(x=product, y=a), y=b)  # type: ignore[attr-defined]

    model = mil(tmp_path, build, (64,), (64,), half=True)
    assert only(run(model, a=x, b=y)).tolist() == (((x * y).astype(np.float16) + x) - y).tolist()


def test_only_operations_that_round_get_a_pair_of_casts(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.relu(x=mb.transpose(x=mb.exp(x=a), perm=[1, 0])), (2, 3), half=True)
    stored = coreml_to_onnx(model)
    assert sum(node.op_type == "Cast" for node in stored.model.graph) == 4  # input, the pair behind Exp, output
    ideal = coreml_to_onnx(model, precision="fp32")
    assert [node.op_type for node in ideal.model.graph] == ["Cast", "Exp", "Transpose", "Relu", "Cast"]


def test_values_keep_their_names(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.relu(x=mb.exp(x=a, name="inner"), name="outer"), (2, 3))
    lowered = coreml_to_onnx(model)
    assert lowered.values["inner"] == "inner"
    assert [v.name for v in lowered.model.graph.outputs] == ["outer"]


def test_an_input_may_be_an_output_as_it_came(tmp_path: Path) -> None:
    model = program(tmp_path, lambda mb, a, b: (a, mb.add(x=a, y=a), b), [((2,), "float16"), ((1, 2), "int32")])
    x, y = np.float16([0.1, 3]), np.int32([[7, -7]])
    with session(model) as running:
        given = running.run({"a": x, "b": y})
    assert {name: (str(v.dtype), v.tolist()) for name, v in given.items()} == {
        "a": ("float16", x.tolist()),
        "add_0": ("float16", (x + x).tolist()),
        "b": ("int32", y.tolist()),
    }


def test_weights_cut_short_are_named(tmp_path: Path) -> None:
    weight = normal(16, 16)
    model = mil(tmp_path, lambda mb, a: mb.linear(x=a, weight=weight), (2, 16))
    assert model.folder is not None
    file = model.folder / "weights" / "weight.bin"
    file.write_bytes(file.read_bytes()[:400])
    assert model.path is not None
    with pytest.raises(
        UnreadableModelError, match=r"expected 1024 bytes from byte 128, found the file ends at byte 400"
    ):
        coreml_to_onnx(load_coreml(model.path))


def test_all_unknown_operations_are_refused_at_once(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.exp(x=mb.relu(x=mb.sin(x=a))), (2,))
    for operation in model.spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations:
        operation.type = {"sin": "sine", "exp": "exponential"}.get(operation.type, operation.type)
    with pytest.raises(UnsupportedOperatorsError) as caught:
        coreml_to_onnx(model)
    assert set(caught.value.operators) == {"sine", "exponential"}


def test_a_missing_argument_names_the_operation(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.transpose(x=a, perm=[1, 0], name="turned"), (2, 3))
    for operation in model.spec.mlProgram.functions["main"].block_specializations["CoreML7"].operations:
        operation.inputs.pop("perm", None)
    with pytest.raises(ConversionError, match="turned"):
        coreml_to_onnx(model)


def test_the_registry_picks_the_newest_handler_that_the_file_knows() -> None:
    assert handler_for("reshape", "CoreML5") is MIL.find("reshape", 15)
    assert handler_for("reshape", "CoreML8") is MIL.find("reshape", 17) is not MIL.find("reshape", 15)
    assert handler_for("slice_update", "CoreML7") is None
