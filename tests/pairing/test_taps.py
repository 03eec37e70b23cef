"""In which format a compared value is stored: the coarser of the two sides counts, also behind a cast."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.pairing.align import Pair
from coreproof.pairing.taps import stored_formats
from coreproof.verification.verify import verify
from tests.build import onnx_model

TEXT = """<ir_version: 9, opset_import: ["": 17]>
net (float[4, 16] x) => (float[4, 16] y) { m = MatMul(x, w)  y = Add(m, b) }"""


def test_what_is_cast_from_float16_has_the_digits_of_float16() -> None:
    rng = np.random.default_rng(0)
    w = np.eye(16, dtype=np.float32)
    source = onnx_model(TEXT, w=w, b=rng.normal(size=16).astype(np.float32))
    narrow = onnx_to_coreml(source, "mlprogram", precision="fp16")
    assert stored_formats([Pair("y", "y", "output")], narrow, source)["y"] == "float16"
    assert stored_formats([Pair("y", "y", "output")], source, source)["y"] == "float32"
    assert verify(narrow, source).agrees
