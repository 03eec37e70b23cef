"""A value that many layers read is redirected at once: an edit costs one look at the graph, not one for every reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.model.base import Model
from coreproof.model.coreml import graph as coreml_graph
from coreproof.model.onnx import read as onnx_read


def _fan(readers: int, folder: Path) -> Model:
    """x -> Relu -> Abs -> ``readers`` Sqrt -> Concat."""
    nodes = [helper.make_node("Relu", ["x"], ["r"], name="r"), helper.make_node("Abs", ["r"], ["a"], name="a")]
    nodes += [helper.make_node("Sqrt", ["a"], [f"s{i}"], name=f"s{i}") for i in range(readers)]
    nodes.append(helper.make_node("Concat", [f"s{i}" for i in range(readers)], ["y"], name="y", axis=1))
    graph = helper.make_graph(
        nodes,
        "fan",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2 * readers])],
    )
    path = folder / f"fan{readers}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return cp.load(path)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for every time that a stored graph is read anew."""
    from coreproof.editing.editors import onnx as onnx_editor
    from coreproof.editing.editors import program_document
    from coreproof.model.coreml import model as coreml

    seen: list[str] = []
    for module in (coreml, coreml_graph, onnx_editor, onnx_read, program_document):
        for name in ("read_graph", "program_graph", "to_ir"):
            real = getattr(module, name, None)
            if real is not None:
                monkeypatch.setattr(
                    module,
                    name,
                    lambda *given, _real=real, _name=name, **named: seen.append(_name) or _real(*given, **named),
                )
    return seen


@pytest.mark.parametrize("form", ["onnx", "mlprogram", "neuralnetwork"])
def test_the_graph_is_looked_at_as_often_for_many_readers_as_for_few(
    form: str, looks: list[str], tmp_path: Path
) -> None:
    counts = []
    for readers in (3, 40):
        model = _fan(readers, tmp_path)
        if form != "onnx":
            model = cp.convert(model, to=form, precision="fp32", check=False)
        (layer,) = [
            node.name for node in model.graph.nodes if node.operator.lower() in ("abs", "unary") and "a" in node.outputs
        ]
        looks.clear()
        edited = cp.edit(model, [cp.Edit("delete", {"layer": layer})], check=False).model
        counts.append(len(looks))
        x = np.array([[-4.0, 9.0]], np.float32)
        with cp.session(edited) as running:
            (y,) = running.run({"x": x}).values()
        np.testing.assert_allclose(y.reshape(-1), [0.0, 3.0] * readers, atol=1e-3)
    assert counts[0] > 0
    assert counts[0] == counts[1]
