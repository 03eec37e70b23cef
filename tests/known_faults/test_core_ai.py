"""The known faults of Core AI, on graphs written down by hand, and through Apple's package where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.known_faults.catalogue import FAULTS
from coreproof.known_faults.found import sighted
from coreproof.known_faults.record import Seen
from coreproof.model.features import Signature
from coreproof.model.graph import Graph, Node, Value
from tests.aimodels import assembled, needs_coreai
from tests.known_faults.damaged import damaged

NONE = Signature((), ())


def layer(
    operator: str, reads: str, makes: str, held: Mapping[str, tuple[int, ...]] | None = None, **said: Any
) -> Node:
    """A layer that reads values and weights of float16."""
    weights = {name: ("float16", shape) for name, shape in (held or {}).items()}
    return Node(makes, operator, (*reads.split(), *weights), (makes,), attributes=said, parameters=weights)


def found(*nodes: Node, **values: tuple[str, tuple[int, ...]]) -> set[str]:
    """The faults of a graph of these layers and values (dtype and lengths)."""
    held = {
        name: Value(name, dtype, shape, constant=True)
        for node in nodes
        for name, (dtype, shape) in node.parameters.items()
    }
    known = {name: Value(name, dtype, shape) for name, (dtype, shape) in values.items()}
    graph = Graph("main", nodes, ("x",), (nodes[-1].outputs[0],), {**held, **known})
    for broken in damaged(graph):
        sighted([Seen("coreai", broken, NONE)])  # raises nothing: that a layer lacks something is another rule's matter
    return {one.fault.id for one in sighted([Seen("coreai", graph, NONE)])}


HALF, WIDE = ("float16", (2, 4)), ("float32", (2, 4))


def test_argmax_of_float16_is_found_and_of_float32_not() -> None:
    node = layer("argmax", "x", "y", axis=1)
    assert found(node, x=HALF, y=("int32", (2, 1))) == {"half-argmax"}
    assert found(node, x=WIDE, y=("int32", (2, 1))) == set()


@pytest.mark.parametrize(
    ("shape", "gate", "wanted"),
    [
        ((2, 4), "@hard_sigmoid_abc", {"matmul-before-hardswish"}),
        ((1, 1, 2, 4), "@hard_sigmoid_abc", set()),
        ((2, 4), "@gelu_abc", set()),
    ],
)
def test_a_product_that_goes_into_a_hardswish(shape: tuple[int, ...], gate: str, wanted: set[str]) -> None:
    nodes = (
        layer("broadcasting_batch_matmul", "x w", "m"),
        layer("broadcasting_add", "m", "a", {"bias": (4,)}),
        layer("invoke", "a", "g", callee=gate),
        layer("broadcasting_mul", "a g", "y"),
    )
    assert found(*nodes, x=HALF, w=HALF, m=("float16", shape), a=("float16", shape), g=("float16", shape)) == wanted


@pytest.mark.parametrize(("gathered", "wanted"), [("boxes", {"gather-of-the-largest"}), ("scores", set())])
def test_another_value_gathered_at_the_places_of_the_largest(gathered: str, wanted: set[str]) -> None:
    nodes = (
        layer("argsort", "scores", "order", dim=1, descending=True),
        layer("slice", "order", "first"),
        layer("expand_dims", "first", "wide"),
        layer("gather_along_axis", f"{gathered} wide", "y"),
    )
    assert found(*nodes, scores=HALF, boxes=HALF, order=("int32", (2, 4)), y=HALF) == wanted


@pytest.mark.parametrize(
    ("summed", "shift", "dtype", "wanted"),
    [
        ("reduce_sum", False, "float16", {"logsumexp-overflow"}),
        ("reduce_sum", True, "float16", set()),
        ("reduce_sum", False, "float32", set()),
        ("reduce_mean", False, "float16", set()),
    ],
)
def test_log_of_a_sum_of_exponentials(summed: str, shift: bool, dtype: str, wanted: set[str]) -> None:
    before = [layer("reduce_max", "x", "m"), layer("broadcasting_sub", "x m", "s")] if shift else []
    nodes = (*before, layer("exp", "s" if shift else "x", "e"), layer(summed, "e", "t"), layer("log", "t", "y"))
    known = (dtype, (2, 4))
    assert found(*nodes, x=known, m=known, s=known, e=known, t=known, y=known) == wanted


def test_a_scale_for_each_block_is_found_and_one_for_each_channel_not() -> None:
    blocks = layer("dequantize", "", "y", {"data": (8, 64), "scale": (8, 2)})
    channels = layer("dequantize", "", "y", {"data": (8, 64), "scale": (8, 1)})
    assert found(blocks, y=HALF) == {"blocks-of-scales"}
    assert found(channels, y=HALF) == set()


@pytest.mark.parametrize(
    ("stride", "kernel", "wanted"),
    [
        (16, 2, {"wide-conv-transpose"}),
        (8, 16, {"wide-conv-transpose"}),
        (8, 4, set()),
        (2, 16, set()),
    ],
)
def test_a_transposed_convolution_with_a_wide_stride(stride: int, kernel: int, wanted: set[str]) -> None:
    node = layer("conv_transpose2d", "x", "y", {"w": (4, 4, 1, kernel)}, stride=[1, stride])
    assert found(node, x=("float32", (1, 4, 1, 8))) == wanted


SOFTPLUS = """
module {
  coreai.graph @main(%arg0: tensor<2x4xDTYPE> {coreai.name = "x"}) -> (tensor<2x4xDTYPE> {coreai.name = "y"}) {
    %0 = coreai.constant dense<NUMBER> : tensor<DTYPE>
    %1 = coreai.exp %arg0 : tensor<2x4xDTYPE> -> tensor<2x4xDTYPE>
    %2 = coreai.decomposable.broadcasting_add %1, %0 : (tensor<2x4xDTYPE>, tensor<DTYPE>) -> tensor<2x4xDTYPE>
    %3 = coreai.log %2 : tensor<2x4xDTYPE> -> tensor<2x4xDTYPE>
    coreai.output %3 : tensor<2x4xDTYPE>
  }
}
"""


@needs_coreai
@pytest.mark.parametrize(
    ("dtype", "number", "wanted"), [("f16", "1.0", ["known-fault"]), ("f16", "2.0", []), ("f32", "1.0", [])]
)
def test_a_file_with_a_softplus_written_out(dtype: str, number: str, wanted: list[str], tmp_path: Path) -> None:
    text = SOFTPLUS.replace("DTYPE", dtype).replace("NUMBER", number)
    diagnosis = cp.diagnose(assembled(tmp_path / "m.aimodel", text))
    assert [finding.rule for finding in diagnosis] == wanted
    assert all("softplus-overflow" in f.evidence and f.advice and not f.repaired for f in diagnosis)
    assert diagnosis.healthy


def test_every_fault_of_core_ai_is_among_these() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(fault.id in tested for fault in FAULTS if fault.framework == "coreai")
