"""What an ONNX file says of itself is held against what it holds, at load, before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.errors import TooLargeError, UnreadableModelError, UnsafeModelError

FLOATS = [1, 3, 8, 8]


def net() -> onnx.ModelProto:
    """A convolution, a constant with its addition, an If with a graph in each branch."""
    rng = np.random.default_rng(0)
    branch = [
        helper.make_graph(
            [helper.make_node("Add", ["c", f"{name}.w"], [f"{name}.y"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}.y", 1, None)],
            [numpy_helper.from_array(np.ones((1, 4, 1, 1), np.float32), f"{name}.w")],
        )
        for name in ("then", "else")
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", group=1, pads=[1, 1, 1, 1]),
        helper.make_node("Constant", [], ["k"], name="k", value=numpy_helper.from_array(np.float32([2.0]))),
        helper.make_node("Add", ["a", "k"], ["c"], name="add"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch[0], else_branch=branch[1]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, FLOATS)],
        [helper.make_tensor_value_info("y", 1, [1, 4, 8, 8])],
        [
            numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "w"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def written(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def attribute(model: onnx.ModelProto, node: str, name: str) -> AttributeProto:
    owner = next(n for n in model.graph.node if n.name == node)
    return next(a for a in owner.attribute if a.name == name)


def inner(model: onnx.ModelProto) -> onnx.GraphProto:
    return attribute(model, "if", "then_branch").g


def more_dims(tensor: TensorProto) -> None:
    tensor.dims[:] = [2**40]


def test_the_whole_model_loads_and_runs(tmp_path: Path) -> None:
    with cp.session(cp.load(written(net(), tmp_path))) as running:
        assert running.run({"x": np.ones(FLOATS, np.float32)})["y"].shape == (1, 4, 8, 8)


DAMAGE: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "an initializer that declares more than it stores": (
        lambda m: more_dims(m.graph.initializer[0]),
        r"initializer 'w'[\s\S]*4,398,046,511,104 bytes[\s\S]*432 bytes",
    ),
    "an initializer that stores nothing": (lambda m: m.graph.initializer[0].ClearField("raw_data"), "108 entries"),
    "typed values of another number": (
        lambda m: m.graph.initializer.append(TensorProto(name="t", data_type=1, dims=[3], float_data=[1.0, 2.0])),
        r"'t'[\s\S]*3 entries of float_data",
    ),
    "typed values in another field": (
        lambda m: m.graph.initializer.append(TensorProto(name="t", data_type=1, dims=[2], int64_data=[1, 2])),
        "values in int64_data",
    ),
    "text of another number": (
        lambda m: m.graph.initializer.append(TensorProto(name="t", data_type=8, dims=[9], string_data=[b"a"])),
        "9 entries of string_data",
    ),
    "a negative length": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), "lengths from 0 on"),
    "a data type that there is not": (
        lambda m: setattr(m.graph.initializer[0], "data_type", 2147483647),
        "number 2147483647",
    ),
    "a data type left open": (lambda m: setattr(m.graph.initializer[0], "data_type", 0), "number 0"),
    "a tensor attribute": (
        lambda m: more_dims(attribute(m, "k", "value").t),
        r"node k \(Constant\)|node 'k' \(Constant\)",
    ),
    "an initializer of a branch": (lambda m: more_dims(inner(m).initializer[0]), r"then_branch[\s\S]*then\.w|then\.w"),
    "a list of tensors": (
        lambda m: m.graph.node[0].attribute.append(
            AttributeProto(name="z", type=AttributeProto.TENSORS, tensors=[TensorProto(data_type=1, dims=[7])])
        ),
        "7 entries",
    ),
    "a sparse initializer": (
        lambda m: m.graph.sparse_initializer.append(
            onnx.SparseTensorProto(
                dims=[2, 2],
                values=TensorProto(name="s", data_type=1, dims=[3], float_data=[1.0]),
                indices=TensorProto(data_type=7, dims=[3], int64_data=[0, 1, 2]),
            )
        ),
        "sparse initializer 's'",
    ),
    "an attribute of another type": (
        lambda m: attribute(m, "conv", "group").CopyFrom(helper.make_attribute("group", 1.0)),
        r"attribute 'group'[\s\S]*expected: INT[\s\S]*found: FLOAT",
    ),
    "an attribute that says one type and holds another": (
        lambda m: m.graph.node[0].attribute.append(AttributeProto(name="own", type=AttributeProto.INT, f=1.0)),
        r"'own'[\s\S]*type FLOAT",
    ),
    "a reference outside a function": (
        lambda m: setattr(attribute(m, "if", "then_branch"), "ref_attr_name", "own"),
        "outside a function",
    ),
    "an attribute of no type": (lambda m: setattr(attribute(m, "conv", "group"), "type", 0), "number 0"),
    "a type of input that there is not": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 255),
        r"input 'x'[\s\S]*number 255",
    ),
    "an absurd length of an output": (
        lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[0], "dim_value", -(2**31)),
        r"output 'y'[\s\S]*-2147483648",
    ),
    "a NUL in a name": (lambda m: setattr(m.graph.node[0], "name", "a\0b"), "NUL"),
    "a value that two nodes make": (lambda m: m.graph.node[2].output.__setitem__(0, "a"), "value 'a'"),
    "an initializer without a name": (lambda m: setattr(m.graph.initializer[0], "name", ""), "a name"),
    "an opset that there is not": (lambda m: setattr(m.opset_import[0], "version", 2**50), "an opset"),
    "an opset of nothing": (lambda m: setattr(m.opset_import[0], "version", 0), "an opset of ai.onnx from 1 on"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_with_what_is_wrong(damage: str, tmp_path: Path) -> None:
    change, words = DAMAGE[damage]
    model = net()
    change(model)
    path = written(model, tmp_path)
    with pytest.raises(UnreadableModelError, match=words) as caught:
        cp.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UnreadableModelError, match=words):
        cp.load(model)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(net().SerializeToString().replace(b"conv", b"\xff\xfenv"))
    with pytest.raises(UnreadableModelError, match="UTF-8"):
        cp.load(path)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    model = net()
    for name in ("initializer", "a data type left open", "an attribute of another type", "a NUL in a name"):
        DAMAGE.get(name, DAMAGE["an initializer without a name"])[0](model)
    with pytest.raises(UnreadableModelError) as caught:
        cp.load(written(model, tmp_path))
    assert all(word in str(caught.value) for word in ("4 parts", "number 0", "FLOAT", "NUL"))


def test_what_the_doctor_is_to_find_can_be_loaded(tmp_path: Path) -> None:
    model = net()
    model.graph.node[0].input[0] = "nobody makes this"
    model.graph.node[0].ClearField("attribute")
    assert cp.load(written(model, tmp_path)).graph.nodes[0].inputs[0] == "nobody makes this"


def external(tmp_path: Path, **entries: str) -> Path:
    """A model whose constant lies in a file of its own: an attribute, which ``onnx.save`` does not check."""
    model = net()
    tensor = attribute(model, "k", "value").t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "k.bin", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "k.bin").write_bytes(np.float32([5.0, 6.0]).tobytes())
    return written(model, tmp_path)


def test_an_attribute_in_a_file_of_its_own_is_read(tmp_path: Path) -> None:
    path = external(tmp_path, offset="4", length="4")
    os.chdir(tmp_path.parent)
    model = cp.load(path)
    with cp.session(model) as running:
        there = running.run({"x": np.zeros(FLOATS, np.float32)})["y"]
    np.testing.assert_array_equal(there, np.full((1, 4, 8, 8), 7.0, np.float32))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"length": "8"}, "length of 8"),
        ({"offset": "6"}, "at least 10"),
        ({"offset": "-4"}, "whole number of bytes"),
        ({"offset": "4e0"}, "whole number of bytes"),
        ({"location": "nothing.bin"}, "no such file"),
    ],
)
def test_data_files_hold_what_is_declared(entries: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableModelError, match=words):
        cp.load(external(tmp_path, **entries))


@pytest.mark.parametrize(
    "location", ["", "/etc/hostname", "../k.bin", "a/../../k.bin", "C:k.bin", "..\\k.bin", "k\0.bin"]
)
def test_the_name_of_a_data_file_stays_below_the_folder(location: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeModelError, match="not followed"):
        cp.load(external(tmp_path, location=location))


@pytest.mark.parametrize("graph", ["initialization", "algorithm"])
@pytest.mark.parametrize("location", ["../k.bin", "/etc/hostname", ""])
def test_no_name_of_a_data_file_leads_out_of_the_folder_from_training(
    graph: str, location: str, tmp_path: Path
) -> None:
    model = net()
    tensor = getattr(model.training_info.add(), graph).initializer.add(name="k", data_type=1, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    with pytest.raises(UnsafeModelError, match="the weights of 'k': this name is not followed"):
        cp.load(written(model, tmp_path))
    tensor.external_data[0].value = "k.bin"
    assert cp.load(written(model, tmp_path)).graph.nodes


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = external(tmp_path)
    os.remove(tmp_path / "k.bin")
    os.mkfifo(tmp_path / "k.bin")
    with pytest.raises(UnreadableModelError, match="a pipe"):
        cp.load(path)


def sparse(model: onnx.ModelProto, dims: list[int], place: int) -> None:
    del model.graph.initializer[0]
    model.graph.sparse_initializer.append(
        onnx.SparseTensorProto(
            dims=dims,
            values=TensorProto(name="w", data_type=1, dims=[1], float_data=[3.0]),
            indices=TensorProto(data_type=7, dims=[1], int64_data=[place]),
        )
    )


def test_a_sparse_initializer_is_read(tmp_path: Path) -> None:
    model = net()
    sparse(model, [4, 3, 3, 3], 4)
    loaded = cp.load(written(model, tmp_path))
    x = np.random.default_rng(0).standard_normal(FLOATS).astype(np.float32)
    with cp.session(loaded) as running:
        there = running.run({"x": x}, ["a"])["a"]
    np.testing.assert_allclose(there[0, 0], 3 * x[0, 0], rtol=1e-6)
    assert not there[0, 1:].any()


def test_a_sparse_initializer_is_made_dense_within_the_budget(tmp_path: Path) -> None:
    model = net()
    sparse(model, [2**20, 2**20], 4)
    with pytest.raises(TooLargeError, match=r"sparse tensor 'w'[\s\S]*1048576"):
        cp.load(written(model, tmp_path))


def test_a_sparse_value_outside_its_shape(tmp_path: Path) -> None:
    model = net()
    sparse(model, [4, 3, 3, 3], 108)
    with pytest.raises(UnreadableModelError, match="outside its shape"):
        cp.load(written(model, tmp_path))


def test_an_onnx_ir_model_whose_weights_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model = ir.load(external(tmp_path))
    for node in model.graph:
        for held in node.attributes.values():
            if held.type == ir.AttributeType.TENSOR:
                tensor = ir.ExternalTensor("../k.bin", 4, 4, ir.DataType.FLOAT, shape=ir.Shape([1]), name="k")
                tensor.base_dir = tmp_path / "model"
                node.attributes[held.name] = ir.AttrTensor(held.name, tensor)
    with pytest.raises(UnsafeModelError, match=r"\.\."):
        cp.load(model)


def test_how_nodes_are_spread_over_devices_is_left_out(tmp_path: Path) -> None:
    model = net()
    model.graph.node[0].device_configurations.add(configuration_id="nobody knows this one")
    with cp.session(cp.load(written(model, tmp_path))) as running:
        assert running.run({"x": np.ones(FLOATS, np.float32)})["y"].shape == (1, 4, 8, 8)


def test_text_among_the_weights_is_saved_and_cut_out(tmp_path: Path) -> None:
    model = net()
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a", "b"], object), "texts"))
    model.graph.node.append(helper.make_node("Identity", ["texts"], ["said"], name="said"))
    model.graph.output.append(helper.make_tensor_value_info("said", TensorProto.STRING, [2]))
    loaded = cp.load(written(model, tmp_path))
    again = cp.load(loaded.save(tmp_path / "again.onnx"))
    with cp.session(again) as running:
        assert running.run({"x": np.ones(FLOATS, np.float32)})["said"].tolist() == ["a", "b"]
