"""What a float16 program rounds where it enters: the source, fed the rounded numbers, says the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.verify import verify
from tests.build import onnx_model, onnx_proto


@pytest.mark.parametrize("shape", ["", "[1]", "[3,1]"])
@pytest.mark.parametrize("more", ["", " m = Sub(x, c) s = Softmax<axis=-1>(m) z = Add(s, y)"])
def test_what_is_fed_is_rounded_where_it_is_cast_in_another_shape(shape: str, more: str) -> None:
    """A number of rank 0 enters as [1], and is squeezed before it is cast; before a softmax it is held within float16's range."""
    outputs = f"float{shape} y" + (f", float{shape or '[1]'} z" if more else "")
    text = f'<ir_version: 8, opset_import: ["": 17]> net (float{shape} x) => ({outputs}) {{ y = Tan(x){more} }}'
    source = onnx_model(text, **({"c": np.float32([0.25])} if more else {}))
    made = onnx_to_coreml(source, "mlprogram", precision="fp16")
    rank = shape.count(",") + 1 if shape else 0
    x = np.full({0: (), 1: (1,), 2: (3, 1)}[rank], 1.55922, np.float32)  # 0.0116 before the pole
    found = verify(source, made, {"x": x})
    assert found, found.summary()
    wrong = onnx_model(text.replace("Tan(x)", "Sin(x)"), **({"c": np.float32([0.25])} if more else {}))
    assert not verify(wrong, made, {"x": x})


def test_what_is_fed_is_rounded_for_some_and_not_for_all() -> None:
    """An output that hands the input on keeps it in float32; the tangent beside it reads it in float16."""
    nodes = [
        helper.make_node("Tan", ["x"], ["y"]),
        helper.make_node("Concat", ["x", "k"], ["z"], axis=0),
    ]
    low = np.full((1, 64), -1e9, np.float32)
    made = onnx_proto(nodes, {"x": [4, 64]}, {"y": [4, 64], "z": [5, 64]}, {"k": low})
    source = OnnxModel(ir.from_proto(onnx.shape_inference.infer_shapes(made)), name="g")
    program = onnx_to_coreml(source, "mlprogram", precision="fp16")
    x = np.random.default_rng(0).uniform(-1, 1, (4, 64)).astype(np.float32)
    # near the pole, the tangent makes much of a rounding
    x[0, :4] = np.pi / 2 - np.float32([0.0501, 0.0302, 0.0203, 0.0104])
    found = verify(source, program, {"x": x})
    assert found.agrees, found.summary()


@pytest.mark.parametrize(("operator", "least"), [("Max", 1e-6), ("Max", 3e-7), ("Min", -1e-6)])
def test_an_epsilon_below_what_float16_holds_whole_is_as_far_off_as_it_is_stored(operator: str, least: float) -> None:
    """All elements are that number: a variance of one step, held from below. Another epsilon is another number all the same."""

    def net(epsilon: float) -> OnnxModel:
        body = f"a = Abs(x) n = {'Neg' if operator == 'Max' else 'Identity'}(a) m = {operator}(n, c)"
        text = f"net (float[1,32] x) => (float[1,32] y) {{ {body} q = Abs(m) s = Sqrt(q) y = Add(s, x) }}"
        return onnx_model(f'<ir_version: 8, opset_import: ["": 17]> {text}', c=np.float32(epsilon))

    made = onnx_to_coreml(net(least), "mlprogram", precision="fp16")
    # the judge: NumPy's own float16
    assert abs(float(np.float16(least)) - least) <= 2.0**-25
    found = verify(net(least), made)
    assert found, found.summary()
    assert not verify(net(least * 2), made)
