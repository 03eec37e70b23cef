"""An output that is a sequence of tensors becomes as many outputs, and each is held against its tensor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.errors import ConversionError
from coreproof.verification.converted import check_conversion

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4)).astype(np.float32)
P, Q = (RNG.normal(size=(4, n)).astype(np.float32) for n in (3, 5))
OPSETS = [helper.make_opsetid("", 17)]


def model(*items: str, outputs: tuple[str, ...] = ("s",), extra: tuple[onnx.NodeProto, ...] = ()) -> onnx.ModelProto:
    """Two products of X of different lengths, X itself and a constant may be items of the sequence s."""
    nodes = [
        helper.make_node("MatMul", ["x", "p"], ["xp"]),
        helper.make_node("MatMul", ["x", "q"], ["xq"]),
        helper.make_node("SequenceConstruct", list(items), ["s"]),
        *extra,
    ]
    declared = [
        onnx.ValueInfoProto(
            name="s", type=helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        )
        if name == "s"
        else helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in outputs
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in (("p", P), ("q", Q))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])], declared, stored
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (("xp", "xq"), [X @ P, X @ Q]),
        (("xq", "xp", "xq"), [X @ Q, X @ P, X @ Q]),
        (("xp",), [X @ P]),
        (("x", "q", "xp"), [X, Q, X @ P]),
    ],
)
def test_each_tensor_is_an_output(items: tuple[str, ...], expected: list[np.ndarray], to: str) -> None:
    made = cp.convert(cp.load(model(*items)), to, **({"precision": "fp32"} if to == "mlprogram" else {}))
    assert any("is a sequence of" in note for note in made.notes)
    assert any(note.startswith("checked") for note in made.notes)
    with cp.session(made) as running:
        got = running.run({"x": X})
    assert list(got) == [f"s_{n}" for n in range(len(expected))]
    for array, want in zip(got.values(), expected, strict=True):
        np.testing.assert_allclose(array, want, rtol=1e-5, atol=1e-6)


def test_other_outputs_keep_their_places_and_their_names() -> None:
    extra = (helper.make_node("Neg", ["xp"], ["s_0"]),)
    made = cp.convert(
        cp.load(model("xp", "xq", outputs=("s_0", "s", "xq"), extra=extra)), "mlprogram", precision="fp32"
    )
    names = [feature.name for feature in made.signature.outputs]
    assert names[0] == "s_0"
    assert names[-1] == "xq"
    assert len(set(names)) == 4
    with cp.session(made) as running:
        got = list(running.run({"x": X}).values())
    for array, want in zip(got, [-(X @ P), X @ P, X @ Q, X @ Q], strict=True):
        np.testing.assert_allclose(array, want, rtol=1e-5, atol=1e-6)


def test_a_tensor_in_the_place_of_another_is_found() -> None:
    swapped = cp.convert(cp.load(model("xq", "xp")), "mlprogram", precision="fp32", check=False)
    assert not check_conversion(cp.load(model("xp", "xq")), swapped)
    right = cp.convert(cp.load(model("xp", "xq")), "mlprogram", precision="fp32", check=False)
    found = cp.verify(cp.load(model("xp", "xq")), right, {"x": X})
    assert found
    assert {row.candidate for row in found.outputs} == {"s_0", "s_1"}


def test_a_sequence_whose_tensors_no_node_names_is_refused_with_what_to_do() -> None:
    split = onnx.ModelProto.FromString(model("xp", "xq").SerializeToString())
    split.graph.node[2].CopyFrom(helper.make_node("SplitToSequence", ["xp"], ["s"], axis=1))
    with pytest.raises(ConversionError, match="is a sequence of 3 tensors") as caught:
        cp.convert(cp.load(split), "mlprogram")
    assert "SequenceAt" in str(caught.value.fix)
