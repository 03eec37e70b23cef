"""The weights of a layer are the same numbers in the same shape, whatever format stores them."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.conversion.convert import convert
from coreproof.errors import InputError, UnreadableModelError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import read_steps
from coreproof.model.layer_weights import all_weights, layer_steps, layer_weights
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx, onnx_net

RNG = np.random.default_rng(0)


def network(*layers: Any) -> CoreMLModel:
    spec = Model_pb2.Model(specificationVersion=4)
    spec.neuralNetwork.layers.extend(layers)
    return CoreMLModel(spec, name="net")


def layer(name: str, operator: str, **fields: Any) -> Any:
    made = Model_pb2.Model().neuralNetwork.layers.add(name=name, input=["x"], output=[name])
    message = getattr(made, operator)
    message.SetInParent()
    for field, value in fields.items():
        if isinstance(value, np.ndarray):
            getattr(message, field).floatValue.extend(value.ravel().tolist())
        elif isinstance(value, list):
            getattr(message, field).extend(value)
        else:
            setattr(message, field, value)
    return made


def test_an_onnx_node_has_its_initializers() -> None:
    model = OnnxModel(conv_relu_onnx(), name="net")
    weights = layer_weights(model, "conv")
    assert weights["w"].shape == (4, 3, 3, 3)
    np.testing.assert_array_equal(weights["w"], model.ir.graph.initializers["w"].const_value.numpy())
    assert list(all_weights(model)) == ["conv"]
    assert layer_weights(model, "relu") == {}


def test_an_onnx_weight_behind_dequantize_is_dequantised() -> None:
    graph = conv_relu_onnx().graph
    w = graph.node("conv").inputs[1]
    assert w is not None
    stored = RNG.integers(-128, 127, (4, 3, 3, 3)).astype(np.int8)
    scale = np.asarray([0.5, 1, 2, 4], np.float32)
    constants = []
    for name, array in (("q", stored), ("s", scale), ("z", np.ones(4, np.int8))):
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
        graph.register_initializer(value)
        constants.append(value)
    node = ir.Node("", "DequantizeLinear", constants, [ir.AttrInt64("axis", 0)], name="dequantize")
    node.outputs[0].name = "dq"
    graph.insert_before(graph.node("conv"), node)
    graph.node("conv").replace_input_with(1, node.outputs[0])
    model = OnnxModel(ir.Model(graph, ir_version=9), name="net")
    expected = (stored.astype(np.float32) - 1) * scale[:, None, None, None]
    np.testing.assert_array_equal(layer_weights(model, "conv")["dq"], expected)
    assert all_weights(model)["conv"]["dq"].dtype == "int8"


def test_a_networks_layer_gives_the_shape() -> None:
    conv = RNG.normal(size=(4, 2, 3, 3)).astype(np.float32)
    up = RNG.normal(size=(6, 2, 2, 2)).astype(np.float32)
    dense = RNG.normal(size=(5, 7)).astype(np.float32)
    model = network(
        layer("c", "convolution", outputChannels=4, kernelChannels=2, nGroups=2, kernelSize=[3, 3], weights=conv),
        layer("u", "convolution", outputChannels=4, kernelChannels=6, nGroups=2, kernelSize=[2, 2], weights=up,
              isDeconvolution=True),
        layer("d", "innerProduct", outputChannels=5, inputChannels=7, weights=dense, bias=dense[:, 0]),
        layer("k", "loadConstantND", shape=[7, 5], data=dense),
    )  # fmt: skip
    np.testing.assert_array_equal(layer_weights(model, "c")["weights"], conv)
    np.testing.assert_array_equal(layer_weights(model, "u")["weights"], up)
    np.testing.assert_array_equal(layer_weights(model, "d")["weights"], dense)
    np.testing.assert_array_equal(layer_weights(model, "d")["bias"], dense[:, 0])
    np.testing.assert_array_equal(layer_weights(model, "k")["data"], dense.reshape(7, 5))


def test_quantised_weights_are_dequantised_channel_by_channel() -> None:
    dense = layer("d", "innerProduct", outputChannels=2, inputChannels=3)
    stored = np.asarray([[0, 1, 2], [3, 4, 255]], np.uint8)
    dense.innerProduct.weights.rawValue = stored.tobytes()
    quantization = dense.innerProduct.weights.quantization
    quantization.numberOfBits = 8
    quantization.linearQuantization.scale.extend([0.5, 2])
    quantization.linearQuantization.bias.extend([1, -1])
    model = network(dense)
    np.testing.assert_array_equal(layer_weights(model, "d")["weights"], [[1, 1.5, 2], [5, 7, 509]])
    assert all_weights(model)["d"]["weights"].dtype == "uint8"


def test_layers_inside_branches_and_loops_have_weights() -> None:
    outer = layer("if", "branch")
    dense = RNG.normal(size=(2, 3)).astype(np.float32)
    outer.branch.ifBranch.layers.append(layer("d", "innerProduct", outputChannels=2, inputChannels=3, weights=dense))
    outer.branch.elseBranch.layers.append(layer("d", "innerProduct", outputChannels=2, inputChannels=3, weights=-dense))
    model = network(outer)
    assert list(all_weights(model)) == ["d", "d#2"]
    np.testing.assert_array_equal(all_weights(model)["d#2"]["weights"].read(), -dense)


def test_a_bidirectional_lstm_shows_each_of_its_matrices() -> None:
    made = layer("l", "biDirectionalLSTM", inputVectorSize=3, outputVectorSize=2)
    for _ in range(2):
        made.biDirectionalLSTM.weightParams.add().inputGateWeightMatrix.floatValue.extend(range(6))
    model = network(made)
    assert layer_weights(model, "l")["weightParams[1].inputGateWeightMatrix"].shape == (2, 3)
    assert set(model.graph.nodes[0].parameters) == set(layer_weights(model, "l"))


def test_weights_of_another_size_than_the_fields_say_are_refused() -> None:
    short = np.zeros(5, np.float32)
    model = network(layer("d", "innerProduct", outputChannels=2, inputChannels=3, weights=short))
    with pytest.raises(UnreadableModelError, match=r"layer 'd' \(innerProduct\)"):
        layer_weights(model, "d")


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no layer 'nothing'"):
        layer_weights(OnnxModel(conv_relu_onnx(), name="net"), "nothing")


def test_names_are_those_of_the_graph(shared_data: Path) -> None:
    for path in sorted([*(shared_data / "coreml").iterdir(), *(shared_data / "legacy").glob("*/*.mlmodel")]):
        model = load(path)
        if model.format not in ("neuralnetwork", "mlprogram"):
            continue
        weights = all_weights(model)
        for node in model.graph.nodes:
            assert set(node.parameters) <= set(weights.get(node.name, {})), (path.name, node.name)


@pytest.mark.parametrize("case", ["ok_seblock_b1_torch110_oc040", "ok_resnet18thin_torch110_oc040"])
def test_a_conversion_has_the_weights_of_its_source(shared_data: Path, case: str) -> None:
    """onnx-coreml keeps the numbers of a convolution as they are."""
    source = all_weights(load(shared_data / "legacy" / case / "model.onnx"))
    known = [r.read() for weights in source.values() for r in weights.values()]
    candidate = all_weights(load(shared_data / "legacy" / case / "model.mlmodel"))
    convolutions = [w["weights"].read() for w in candidate.values() if "weights" in w]
    assert convolutions
    for weight in convolutions:
        assert any(weight.shape == k.shape and np.array_equal(weight, k) for k in known)


@pytest.mark.parametrize("stored", ["uint8", "int8"])
def test_a_compressed_program_is_decompressed(stored: str, tmp_path: Path) -> None:
    """The numbers that coremltools compressed, within the step of the compression."""
    dense = RNG.normal(size=(64, 48)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 48))], opset_version=ct.target.iOS16)
        def program(x: Any) -> Any:
            return mb.linear(x=x, weight=dense, name="fc")

        made = ct.convert(
            program,
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        tools = ct.optimize.coreml
        if stored == "uint8":
            palette = tools.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=1)
            made = tools.palettize_weights(made, tools.OptimizationConfig(palette))
        else:
            linear = tools.OpLinearQuantizerConfig(weight_threshold=1)
            made = tools.linear_quantize_weights(made, tools.OptimizationConfig(linear))
        made.save(str(tmp_path / "small.mlpackage"))
        del made
        gc.collect()
    model = load(tmp_path / "small.mlpackage")
    weight = layer_weights(model, "fc")["weight"]
    assert weight.shape == dense.shape
    np.testing.assert_allclose(weight, dense, atol=float(np.ptp(dense)) / (32 if stored == "uint8" else 200))
    assert all_weights(model)["fc"]["weight"].dtype == stored


def test_an_operations_weights_come_in_one_order(tmp_path: Path) -> None:
    """A file keeps arguments in no order: reading the same bytes again may give them in another one."""
    path = convert(OnnxModel(conv_relu_onnx(), name="net"), "mlprogram").save(tmp_path / "net.mlpackage")
    orders = {tuple(weights) for _ in range(20) for weights in all_weights(load(path)).values()}
    assert orders == {("bias", "weight")}


def test_the_steps_of_a_quantised_network_weight() -> None:
    params = NeuralNetwork_pb2.WeightParams(rawValue=bytes([0, 1, 2, 3, 2, 1]))
    params.quantization.numberOfBits = 8
    params.quantization.linearQuantization.scale.extend([0.5, -2.0])
    np.testing.assert_array_equal(read_steps(params, (2, 3)), [[0.5, 0.5, 0.5], [2, 2, 2]])
    params.quantization.lookupTableQuantization.floatValue.extend([0.0, 1.0, 3.0, 7.0])
    # of each entry, the mean distance of the two nearest ones
    np.testing.assert_array_equal(read_steps(params, (2, 3)), [[2, 1.5, 2.5], [5, 2.5, 1.5]])


def test_the_steps_of_a_dequantised_onnx_weight() -> None:
    model = onnx_net(
        [("DequantizeLinear", "q s", "w", {"axis": 0}), ("MatMul", "x w", "y", {})],
        {"x": [1, 2]},
        {"y": None},
        q=np.array([[1, 2, 3], [4, 5, 6]], np.int8),
        s=np.array([0.5, 0.25], np.float32),
    )
    np.testing.assert_array_equal(layer_steps(model, "to_y")["w"], [[0.5] * 3, [0.25] * 3])


@pytest.mark.parametrize(
    ("bits", "zeros", "columns"),
    [(4, None, 64), (4, "packed", 48), (8, "packed", 64), (4, "floats", 40), (2, None, 64)],
)
def test_packed_blocks_stand_for_what_onnx_runtime_multiplies_with(bits: int, zeros: str | None, columns: int) -> None:
    """MatMulNBits of an identity matrix gives its weights; the last block of 48 and of 40 columns is short."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rows, size = 6, 32
    count = -(-columns // size)
    rng = np.random.default_rng(bits + columns)
    stored = {
        "b": rng.integers(0, 256, (rows, count, size * bits // 8)).astype(np.uint8),
        "s": rng.uniform(0.01, 0.1, rows * count).astype(np.float32),
    }
    if zeros == "packed":
        stored["z"] = rng.integers(0, 256, (rows, -(-count * bits // 8))).astype(np.uint8)
    elif zeros == "floats":
        stored["z"] = rng.uniform(0, 15, (rows, count)).astype(np.float32)
    node = helper.make_node(
        "MatMulNBits",
        ["x", *stored],
        ["y"],
        name="product",
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=bits,
        block_size=size,
    )
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [columns, k]) for n, k in (("x", columns), ("y", rows))]
    graph = helper.make_graph(
        [node], "g", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in stored.items()]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": np.eye(columns, dtype=np.float32)})[0].T
    held = all_weights(load(proto))["product"]["b"]
    assert held.shape == (rows, columns)
    np.testing.assert_allclose(held.read(), expected, rtol=1e-5, atol=1e-6)
    assert held.steps is not None
    np.testing.assert_array_equal(held.steps()[:, 0], stored["s"].reshape(rows, count)[:, 0])


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_table_in_blocks_stands_for_the_rows_that_onnx_runtime_picks(packed: bool, zeros: bool) -> None:
    import ml_dtypes
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(4)
    stored = {
        "d": rng.integers(-8, 8, (9, 32)),
        "i": np.arange(9),
        "s": rng.uniform(0.01, 0.1, (9, 2)).astype(np.float32),
    }
    if zeros:
        stored["z"] = rng.integers(-8, 8, (9, 2))
    for name in {"d", "z"} & set(stored):
        low, high = (stored[name][:, at::2].astype(np.uint8) & 15 for at in range(2))
        stored[name] = low | high << 4 if packed else stored[name].astype(ml_dtypes.int4)
    names = ["d", "i", "s", *(["z"] if zeros else [])]
    attributes = {"block_size": 16, "gather_axis": 0, "quantize_axis": 1, "domain": "com.microsoft"}
    node = helper.make_node("GatherBlockQuantized", names, ["y"], name="table", **attributes)
    tensors = [numpy_helper.from_array(stored[name], name) for name in names]
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [9, 32])
    graph = helper.make_graph([node], "g", [], [made], tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {})[0]
    held = all_weights(load(proto))["table"]["d"]
    assert held.shape == (9, 32)
    np.testing.assert_allclose(held.read(), expected, rtol=1e-6)
    assert held.steps is not None
    np.testing.assert_array_equal(held.steps(), np.repeat(stored["s"], 16, 1))


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_of_scales_stand_for_what_onnx_runtime_makes_of_them(axis: int) -> None:
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(axis)
    shape = (3, 16) if axis == 0 else (12, 4)
    stored = {
        "q": rng.integers(-128, 128, (12, 16)).astype(np.int8),
        "s": rng.uniform(0.01, 0.1, shape).astype(np.float32),
        "z": rng.integers(-9, 9, shape).astype(np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=axis, block_size=4),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [12, k]) for n, k in (("x", 12), ("y", 16))]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in stored.items()]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": np.eye(12, dtype=np.float32)})[0]
    held = all_weights(load(proto))["product"]["w"]
    np.testing.assert_allclose(held.read(), expected, rtol=1e-6)
    assert held.steps is not None
    np.testing.assert_array_equal(held.steps(), np.repeat(stored["s"], 4, axis))


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp16"), ("mlprogram", "fp32")])
def test_a_block_of_another_scale_is_a_fault_of_packed_products(to: Any, precision: Any) -> None:
    """Its weight had no partner, so that half of its steps excused whatever stood in it."""
    from onnx import TensorProto, helper, numpy_helper

    import coreproof as cp

    rng = np.random.default_rng(3)
    stored = {
        "b": rng.integers(0, 256, (16, 2, 16)).astype(np.uint8),
        "s": rng.uniform(0.01, 0.03, 32).astype(np.float32),
    }
    wrong = {**stored, "s": stored["s"] * np.where(np.arange(32) == 5, 1.5, 1).astype(np.float32)}

    def model(held: dict[str, np.ndarray]) -> Any:
        node = helper.make_node(
            "MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", K=64, N=16, bits=4, block_size=32
        )
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, k]) for n, k in (("x", 64), ("y", 16))]
        graph = helper.make_graph(
            [node], "g", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in held.items()]
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return load(helper.make_model(graph, opset_imports=opsets, ir_version=9))

    assert cp.verify(model(stored), cp.convert(model(stored), to, precision=precision))
    assert not cp.verify(model(stored), cp.convert(model(wrong), to, precision=precision))
