"""Weights are written while the program is built: the file is coremltools' own, and memory does not grow with the model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from coremltools.converters.mil import Builder
from coremltools.converters.mil.backend.mil.load import load
from coremltools.converters.mil.mil import Function, Program
from onnx import TensorProto, helper

from coreproof.conversion.onnx_to_coreml.streamed_weights import WeightStream
from coreproof.model.coreml.proto import Model_pb2

RNG = np.random.default_rng(3)
WEIGHTS = [RNG.normal(size=(24, 24)).astype(np.float32) for _ in range(4)]
ADDED = RNG.normal(size=24).astype(np.float32)


def _program(builder: Any, change: Callable[[Any], None]) -> Program:
    """Four products, the last by a weight that is large enough to be mapped; ``change`` is done to the block at the end."""
    program = Program()
    with Function({"x": builder.placeholder(shape=(1, 24))}) as function:
        made = function.inputs["x"]
        for weight in WEIGHTS:
            made = builder.linear(x=made, weight=weight)
        made = builder.matmul(x=made, y=np.tile(WEIGHTS[0], (1, 64)))
        function.set_outputs([made])
    program.add_function("main", function)
    change(function)
    # a program numbers its names through the whole process
    for number, operation in enumerate(function.operations):
        for output in operation.outputs:
            operation.name = output.name = f"value_{number}"
    return program


def _as_built(_function: Any) -> None:
    pass


def _one_less(function: Any) -> None:
    """A constant goes, as of a loop that is built twice."""
    last = next(o for o in reversed(function.operations) if o.op_type == "linear")
    before, after = last.inputs["x"], last.outputs[0]
    function.replace_uses_of_var_after_op(anchor_op=last, old_var=after, new_var=before, no_check_var_types=True)
    function.remove_ops([last, last.inputs["weight"].op, last.inputs["bias"].op])


def _one_more_in_front(function: Any) -> None:
    """A constant comes before all others."""
    with function:
        first = next(o for o in function.operations if o.op_type == "linear")
        added = Builder.add(x=function.inputs["x"], y=ADDED, before_op=first)
    function.replace_uses_of_var_after_op(anchor_op=added.op, old_var=function.inputs["x"], new_var=added)


def _last_one_less(function: Any) -> None:
    """The constant at the end goes."""
    last = function.operations[-1]
    function.set_outputs([last.inputs["x"]])
    function.remove_ops([last, last.inputs["y"].op])


@pytest.mark.parametrize("change", [_as_built, _one_less, _one_more_in_front, _last_one_less])
def test_the_file_is_what_coremltools_writes(tmp_path: Path, change: Callable[[Any], None]) -> None:
    stream = WeightStream(tmp_path / "ours", 7)
    ours = stream.export(_program(stream.builder(Builder), change))
    (tmp_path / "theirs").mkdir()
    theirs = load(
        _program(Builder, change),
        weights_dir=str(tmp_path / "theirs"),
        specification_version=7,
        model_description=Model_pb2.ModelDescription(),
    )
    assert ours.functions["main"] == theirs.mlProgram.functions["main"]
    written = [p.name for p in (tmp_path / "ours" / "weights").iterdir()]
    assert written == ["weight.bin"]
    assert (tmp_path / "ours/weights/weight.bin").read_bytes() == (tmp_path / "theirs/weight.bin").read_bytes()


def _chain(path: Path, layers: int, length: int) -> None:
    """So many products by square matrices, which lie in a file of their own."""
    names = [f"w{i}" for i in range(layers)]
    nodes = [helper.make_node("MatMul", [f"h{i}" if i else "x", name], [f"h{i + 1}"]) for i, name in enumerate(names)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, length]) for n in ("x", f"h{layers}")]
    random = np.random.default_rng(5)
    weights = [
        onnx.numpy_helper.from_array(random.normal(size=(length, length)).astype(np.float32), name) for name in names
    ]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.stem}.bin", size_threshold=0)


_PEAK = """
import sys
import coreproof as cp
for source in sys.argv[1:]:
    cp.convert(source, "mlprogram", precision="fp16", check=False).save(source + ".mlpackage")
    print([int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")][0])
"""


def _peaks(sources: Sequence[Path]) -> list[int]:
    run = subprocess.run(
        [sys.executable, "-c", _PEAK, *map(str, sources)], capture_output=True, text=True, check=True, timeout=120
    )
    return [int(line) * 1024 for line in run.stdout.split()]


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what a process held at most")
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    each = 1024 * 1024 * 4
    _chain(tmp_path / "one.onnx", 1, 1024)
    _chain(tmp_path / "many.onnx", 40, 1024)
    one, many = _peaks([tmp_path / "one.onnx", tmp_path / "many.onnx"])
    # as much again as the first needed, for what the allocator keeps, is a tenth of the weights; they were half of it
    assert many - one < 4 * each
