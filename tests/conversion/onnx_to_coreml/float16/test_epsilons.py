"""Small numbers that move an edge: in float16 nothing would be added to 1, and what lies at the edge would have another place."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.float16.half_range import half_range
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
EDGES = np.float32([-1, -0.5, 0, 0.5, 1])
BEFORE = "s = Slice(d, end, all) m = Add(s, eps) r = Slice(d, none, end) e = Concat<axis=0>(r, m)"
PLACED = "u = Unsqueeze(x, last) b = GreaterOrEqual(u, e) c = Cast<to=7>(b) n = ReduceSum<keepdims=0>(c, last) i = Sub(n, one)"
TEXT = f"{HEAD} (float[3] x, float[5] d) => (float[3] y) {{ {BEFORE} {PLACED} y = Gather(heights, i) }}"
WEIGHTS = {
    "heights": np.float32([3, 5, 7, 11]),
    "one": np.int64(1),
    "none": np.int64([0]),
    "end": np.int64([4]),
    "all": np.int64([5]),
    "last": np.int64([-1]),
}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("by", [1e-6, 1e-4])
def test_the_end_of_the_last_bin_belongs_to_it(precision: str, by: float) -> None:
    source = onnx_model(TEXT, **WEIGHTS, eps=np.float32(by))
    made = cp.convert(source, "mlprogram", precision=precision, check=False)  # type: ignore[arg-type]
    fed = {"x": np.float32([-1, 0.25, 1]), "d": EDGES}
    [expected] = onnxruntime.InferenceSession(source.stored()).run(None, fed)
    assert expected.tolist() == [3, 7, 11]
    assert list(cp.session(made).run(fed)["y"]) == expected.tolist()


def test_a_value_that_is_joined_with_itself_again_and_again_is_walked_once() -> None:
    """There are 2^28 ways through it."""
    joined = " ".join(f"c{n + 1} = Concat<axis=0>(c{n}, c{n})" for n in range(28))
    text = f"{HEAD} (float[2] x) => (bool[n] y) {{ c0 = Add(x, eps) {joined} y = Less(c28, zero) }}"
    made = half_range(onnx_model(text, eps=np.float32(1e-6), zero=np.float32(0)).ir.graph)
    assert {"c0", "c1", "c28", "y"} <= made.wide
