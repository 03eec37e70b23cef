"""Healthy ONNX files, tiny and of every build: branches, loops, functions, external data, dictionaries, all tensor fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from conformance.fuzz.files import Case

FLOAT = TensorProto.FLOAT


def onnx_cases() -> list[Case]:
    """The cases, each with its weight among the mutants."""
    single = {
        "net": (_net(), 3),
        "classifier": (_classifier(), 2),
        "branch": (_branch(), 2),
        "loop": (_loop(), 2),
        "dynamic": (_dynamic(), 2),
        "attention": (_attention(), 2),
        "shapes": (_shapes(), 3),
        "quantized": (_quantized(), 2),
        "function": (_function(), 2),
        "dictionary": (_dictionary(), 1),
        "recurrent": (_recurrent(), 1),
        "stored": (_stored(), 2),
        "texts": (_texts(), 2),
        "trees": (_trees(), 2),
        "votes": (_votes(), 1),
    }
    cases = [Case(name, {f"{name}.onnx": _bytes(model)}, f"{name}.onnx", w) for name, (model, w) in single.items()]
    return [*cases, _external()]


def _bytes(model: Any) -> bytes:
    onnx.checker.check_model(model, full_check=False)
    return bytes(model.SerializeToString(deterministic=True))


def _model(graph: Any, opset: int = 17, functions: Any = (), domains: Any = ()) -> Any:
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in domains)]
    return helper.make_model(
        graph, opset_imports=imports, ir_version=8, producer_name="fuzz", functions=list(functions)
    )


def _float(name: str, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, FLOAT, shape)


def _weight(name: str, *shape: int, seed: int = 0) -> Any:
    return numpy_helper.from_array(np.random.RandomState(seed).randn(*shape).astype(np.float32), name)


def _ints(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _net() -> Any:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], "norm"),
        node("Relu", ["n"], ["r"], "relu"),
        node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("ConvTranspose", ["p", "t"], ["up"], "up", strides=[2, 2]),
        node("GlobalAveragePool", ["up"], ["g"], "gap"),
        node("Flatten", ["g"], ["flat"], "flatten"),
        node("Gemm", ["flat", "fc"], ["y"], "fc"),
    ]
    weights = [_weight("w", 4, 3, 3, 3), _weight("b", 4), _weight("t", 4, 4, 2, 2), _weight("fc", 4, 5)]
    weights += [numpy_helper.from_array(np.full(4, v, np.float32), n) for n, v in
                (("scale", 1.5), ("shift", 0.25), ("mean", 0.1), ("var", 2.0))]  # fmt: skip
    return _model(helper.make_graph(nodes, "net", [_float("x", [1, 3, 8, 8])], [_float("y", [1, 5])], weights))


def _classifier() -> Any:
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "flat"], ["f"], "reshape"),
        node("MatMul", ["f", "w"], ["logits"], "matmul"),
        node("Softmax", ["logits"], ["y"], "softmax", axis=-1),
    ]
    weights = [_weight("w", 48, 4), _ints("flat", 1, -1)]
    return _model(helper.make_graph(nodes, "classifier", [_float("x", [1, 3, 4, 4])], [_float("y", [1, 4])], weights))


def _branch() -> Any:
    node = helper.make_node
    then = helper.make_graph([node("Relu", ["x"], ["t"], "then relu")], "then", [], [_float("t", [2, 3])])
    otherwise = helper.make_graph([node("Mul", ["x", "two"], ["e"], "else mul")], "else", [], [_float("e", [2, 3])])
    nodes = [
        node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        node("Greater", ["s", "zero"], ["c"], "greater"),
        node("If", ["c"], ["y"], "if", then_branch=then, else_branch=otherwise),
    ]
    weights = [numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("two", 2))]
    return _model(helper.make_graph(nodes, "branch", [_float("x", [2, 3])], [_float("y", [2, 3])], weights))


def _loop() -> Any:
    node = helper.make_node
    body = helper.make_graph(
        [
            node("Add", ["before", "step"], ["after"], "add"),
            node("Identity", ["going"], ["going_on"], "pass"),
            node("Identity", ["after"], ["scanned"], "scan"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            _float("before", [2]),
        ],
        [helper.make_tensor_value_info("going_on", TensorProto.BOOL, []), _float("after", [2]), _float("scanned", [2])],
    )
    nodes = [node("Loop", ["trips", "yes", "x"], ["last", "y"], "loop", body=body)]
    weights = [
        numpy_helper.from_array(np.int64(3), "trips"),
        numpy_helper.from_array(np.bool_(True), "yes"),
        _weight("step", 2),
    ]
    outputs = [_float("last", [2]), _float("y", [3, 2])]
    return _model(helper.make_graph(nodes, "loop", [_float("x", [2])], outputs, weights))


def _dynamic() -> Any:
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["shape"], "shape"),
        node("Constant", [], ["zero"], "zero", value=_ints("", 0)),
        node("Gather", ["shape", "zero"], ["n"], "gather", axis=0),
        node("Constant", [], ["rest"], "rest", value_ints=[-1]),
        node("Concat", ["n", "rest"], ["to"], "concat", axis=0),
        node("Reshape", ["x", "to"], ["f"], "reshape"),
        node("Gemm", ["f", "w", "b"], ["y"], "gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "dynamic", [_float("x", ["n", 2, 3])], [_float("y", ["n", 4])], [_weight("w", 4, 6), _weight("b", 4)]
    )
    return _model(graph)


def _attention() -> Any:
    node = helper.make_node
    nodes = [
        node("LayerNormalization", ["x", "gamma", "beta"], ["n"], "norm", axis=-1),
        node("MatMul", ["n", "wq"], ["q"], "q"),
        node("Split", ["q", "parts"], ["a", "b"], "split", axis=2),
        node("Transpose", ["b"], ["bt"], "transpose", perm=[0, 2, 1]),
        node("MatMul", ["a", "bt"], ["ab"], "ab"),
        node("Softmax", ["ab"], ["s"], "softmax"),
        node("Einsum", ["s", "a"], ["e"], "einsum", equation="bij,bjd->bid"),
        node("Gelu", ["e"], ["y"], "gelu"),
    ]
    weights = [_weight("gamma", 4), _weight("beta", 4), _weight("wq", 4, 8), _ints("parts", 4, 4)]
    graph = helper.make_graph(nodes, "attention", [_float("x", [1, 3, 4])], [_float("y", [1, 3, 4])], weights)
    return _model(graph, opset=20)


def _shapes() -> Any:
    node = helper.make_node
    nodes = [
        node("Pad", ["x", "pads", "fill"], ["p"], "pad", mode="constant"),
        node("Slice", ["p", "starts", "ends", "axes"], ["s"], "slice"),
        node(
            "Resize", ["s", "", "scales"], ["z"], "resize", mode="linear", coordinate_transformation_mode="half_pixel"
        ),
        node("Unsqueeze", ["z", "axis"], ["u"], "unsqueeze"),
        node("Squeeze", ["u", "axis"], ["q"], "squeeze"),
        node("Expand", ["one", "to"], ["e"], "expand"),
        node("Where", ["mask", "q", "e"], ["w"], "where"),
        node("ReduceMean", ["w"], ["m"], "mean", axes=[2, 3], keepdims=1),
        node("Tile", ["m", "times"], ["t"], "tile"),
        node("Cast", ["t"], ["h"], "half", to=TensorProto.FLOAT16),
        node("Cast", ["h"], ["f"], "float", to=FLOAT),
        node("TopK", ["f", "k"], ["top", "index"], "topk", axis=1),
        node("ArgMax", ["f"], ["arg"], "argmax", axis=1),
        node("Clip", ["f", "low", "high"], ["c"], "clip"),
        node("GatherND", ["c", "at"], ["y"], "gathernd"),
    ]
    weights = [
        _ints("pads", 0, 0, 1, 1, 0, 0, 1, 1), _ints("starts", 0, 1), _ints("ends", 4, 100), _ints("axes", 2, 3),
        _ints("axis", 0),
        _ints("to", 1, 2, 8, 10), _ints("times", 1, 2, 1, 1), _ints("k", 2), numpy_helper.from_array(np.float32(0.5), "fill"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"), numpy_helper.from_array(np.float32(-1), "low"),
        numpy_helper.from_array(np.array([1], np.float32), "one"), numpy_helper.from_array(np.float32(1), "high"),
        numpy_helper.from_array(np.ones((1, 2, 8, 10), bool), "mask"), numpy_helper.from_array(np.array([[0, 1]], np.int64),
        "at"),
    ]  # fmt: skip
    index = helper.make_tensor_value_info("index", TensorProto.INT64, [1, 2, 1, 1])
    arg = helper.make_tensor_value_info("arg", TensorProto.INT64, [1, 1, 1, 1])
    outputs = [_float("y", [1, 1, 1]), _float("top", [1, 2, 1, 1]), index, arg]
    return _model(helper.make_graph(nodes, "shapes", [_float("x", [1, 2, 4, 4])], outputs, weights))


def _quantized() -> Any:
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"], "quantize"),
        node("DequantizeLinear", ["q", "xs", "xz"], ["d"], "dequantize"),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], "weights", axis=0),
        node("Conv", ["d", "w"], ["c"], "conv"),
        node("DynamicQuantizeLinear", ["c"], ["dq", "ds", "dz"], "dynamic"),
        node("DequantizeLinear", ["dq", "ds", "dz"], ["y"], "back"),
    ]
    weights = [
        numpy_helper.from_array(np.float32(0.02), "xs"), numpy_helper.from_array(np.uint8(128), "xz"),
        numpy_helper.from_array(np.arange(-12, 12).astype(np.int8).reshape(2, 3, 2, 2), "wq"),
        numpy_helper.from_array(np.array([0.1, 0.2], np.float32), "ws"), numpy_helper.from_array(np.zeros(2, np.int8), "wz"),
    ]  # fmt: skip
    return _model(
        helper.make_graph(nodes, "quantized", [_float("x", [1, 3, 4, 4])], [_float("y", [1, 2, 3, 3])], weights)
    )


def _function() -> Any:
    node = helper.make_node
    scaled = helper.make_node("Mul", ["a", "factor"], ["b"], "scale")
    constant = node("Constant", [], ["factor"], "factor")
    constant.attribute.append(
        onnx.AttributeProto(name="value_float", type=onnx.AttributeProto.FLOAT, ref_attr_name="by")
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    scale = helper.make_function("own", "Scale", ["a"], ["b"], [constant, scaled], imports, attributes=["by"])
    twice = helper.make_function(
        "own", "Twice", ["a"], ["c"],
        [node("Scale", ["a"], ["b"], "first", domain="own", by=2.0), node("Scale", ["b"], ["c"], "second", domain="own", by=0.5)],
        imports,
    )  # fmt: skip
    nodes = [node("Twice", ["x"], ["t"], "twice", domain="own"), node("Sigmoid", ["t"], ["y"], "sigmoid")]
    graph = helper.make_graph(nodes, "function", [_float("x", [2, 2])], [_float("y", [2, 2])])
    return _model(graph, functions=[scale, twice], domains=[("own", 1)])


def _dictionary() -> Any:
    """What scikit-learn's exporters write: a label, and a sequence of dictionaries of probabilities."""
    node, domain = helper.make_node, "ai.onnx.ml"
    nodes = [
        node("LinearClassifier", ["x"], ["label", "p"], "linear", domain=domain, coefficients=[0.1, 0.2, -0.1, 0.3, 0.2, 0.1],
             intercepts=[0.0, 0.1], classlabels_strings=["cat", "dog"], post_transform="SOFTMAX", multi_class=1),
        node("ZipMap", ["p"], ["y"], "zipmap", domain=domain, classlabels_strings=["cat", "dog"]),
    ]  # fmt: skip
    values = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, [1]),
        helper.make_value_info("y", helper.make_sequence_type_proto(values)),
    ]
    return _model(helper.make_graph(nodes, "dictionary", [_float("x", [1, 3])], outputs), domains=[(domain, 3)])


def _recurrent() -> Any:
    node = helper.make_node
    nodes = [
        node("LSTM", ["x", "w", "r", "b"], ["h", "last", "cell"], "lstm", hidden_size=3),
        node("GRU", ["x", "gw", "gr"], ["g", ""], "gru", hidden_size=3, direction="forward"),
        node("Add", ["h", "g"], ["y"], "add"),
    ]
    weights = [
        _weight("w", 1, 12, 2),
        _weight("r", 1, 12, 3),
        _weight("b", 1, 24),
        _weight("gw", 1, 9, 2),
        _weight("gr", 1, 9, 3),
    ]
    outputs = [_float("y", [4, 1, 1, 3]), _float("last", [1, 1, 3]), _float("cell", [1, 1, 3])]
    return _model(helper.make_graph(nodes, "recurrent", [_float("x", [4, 1, 2])], outputs, weights))


def _stored() -> Any:
    """Every field that a tensor may lie in, and types that NumPy does not know."""
    make, node = helper.make_tensor, helper.make_node
    weights = [
        make("floats", FLOAT, [2, 3], [0.5, 1, 2, 3, 4, 5]),
        make("halves", TensorProto.FLOAT16, [2, 3], np.arange(6).astype(np.float16).tolist()),
        make("bfloats", TensorProto.BFLOAT16, [2, 3], [0.5, 1, 2, 3, 4, 5]),
        make("doubles", TensorProto.DOUBLE, [2, 3], [0.5, 1, 2, 3, 4, 5]),
        make("bytes", TensorProto.UINT8, [2, 3], [0, 1, 2, 3, 4, 255]),
        make("nibbles", TensorProto.INT4, [2, 3], [-8, 7, 1, 2, 3, -1]),
        make("words", TensorProto.INT32, [2, 3], [1, 2, 3, 4, 5, 6]),
        make("texts", TensorProto.STRING, [2], [b"one", b"two"]),
    ]
    casts = [node("Cast", [w.name], [f"{w.name} cast"], f"cast {w.name}", to=FLOAT) for w in weights[1:7]]
    nodes = [
        *casts,
        node("Sum", ["x", "floats", *(c.output[0] for c in casts)], ["y"], "sum"),
        node("Identity", ["texts"], ["t"], "text"),
    ]
    outputs = [_float("y", [2, 3]), helper.make_tensor_value_info("t", TensorProto.STRING, [2])]
    graph = helper.make_graph(nodes, "stored", [_float("x", [2, 3])], outputs, weights)
    sparse = graph.sparse_initializer.add(dims=[2, 3])
    sparse.values.CopyFrom(make("sparse", FLOAT, [2], [1.0, 2.0]))
    sparse.indices.CopyFrom(make("sparse indices", TensorProto.INT64, [2], [0, 4]))
    return _model(graph, opset=21)


def _external() -> Case:
    """Weights in two files beside the model, one with offset and length, one without a length."""
    model = _net()
    first, blobs = [], {"net.data": b"", "sub/more.data": b""}
    for tensor in model.graph.initializer:
        file = "sub/more.data" if tensor.name == "fc" else "net.data"
        entries = {"location": file}
        if file == "net.data":
            entries |= {"offset": str(len(blobs[file])), "length": str(len(tensor.raw_data))}
        blobs[file] += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        first.append(tensor.name)
    return Case(
        "external", {"external.onnx": bytes(model.SerializeToString(deterministic=True)), **blobs}, "external.onnx", 3
    )


_ML = "ai.onnx.ml"


def _texts() -> Any:
    """A row of two texts, of which one makes a row of zeros and a one, and the other a number; a linear classifier of both."""
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["colour"], axis=1),
        helper.make_node("Gather", ["x", "second"], ["size"], axis=1),
        helper.make_node("OneHotEncoder", ["colour"], ["hot"], domain=_ML, cats_strings=["red", "green"], zeros=1),
        helper.make_node(
            "LabelEncoder", ["size"], ["number"], domain=_ML, keys_strings=["S", "M"], values_floats=[0.5, 1.5]
        ),
        helper.make_node("Reshape", ["hot", "pair"], ["flat"]),
        helper.make_node("Concat", ["flat", "number"], ["row"], axis=1),
        helper.make_node(
            "LinearClassifier", ["row"], ["label", "scores"], domain=_ML, coefficients=[0.1] * 9, intercepts=[0.0] * 3,
            classlabels_strings=["a", "b", "c"], post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["scores"], ["shares"], domain=_ML, classlabels_strings=["a", "b", "c"]),
    ]  # fmt: skip
    return _estimator(nodes, helper.make_tensor_value_info("x", TensorProto.STRING, [1, 2]), TensorProto.STRING)


def _trees() -> Any:
    """Two trees that vote for two classes, and their dictionary."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain=_ML, offset=[0.5], scale=[2.0]),
        helper.make_node(
            "TreeEnsembleClassifier", ["scaled"], ["label", "scores"], domain=_ML,
            nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2] * 2, nodes_featureids=[0, 0, 0, 2, 0, 0],
            nodes_values=[0.1, 0.0, 0.0, -0.2, 0.0, 0.0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
            nodes_truenodeids=[1, 0, 0] * 2, nodes_falsenodeids=[2, 0, 0] * 2, nodes_missing_value_tracks_true=[0] * 6,
            class_treeids=[0, 0, 1, 1], class_nodeids=[1, 2] * 2, class_ids=[0, 1, 1, 0], class_weights=[0.5] * 4,
            classlabels_int64s=[7, 9],
        ),
        helper.make_node("ZipMap", ["scores"], ["shares"], domain=_ML, classlabels_int64s=[7, 9]),
    ]  # fmt: skip
    return _estimator(nodes, _float("x", [1, 4]), TensorProto.INT64)


def _votes() -> Any:
    """A support vector machine, whose votes decide."""
    vectors = np.random.RandomState(3).randn(12).round(2).tolist()
    nodes = [
        helper.make_node("Imputer", ["x"], ["whole"], domain=_ML, imputed_value_floats=[0.0], replaced_value_float=1.0),
        helper.make_node(
            "SVMClassifier", ["whole"], ["label", "scores"], domain=_ML, kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0],
            coefficients=[1.0, -1.0, 0.5, 0.25, 1.0, -0.5], rho=[0.1, 0.2, 0.3], vectors_per_class=[1, 1, 1],
            support_vectors=vectors, classlabels_strings=["a", "b", "c"],
        ),
        helper.make_node("ZipMap", ["scores"], ["shares"], domain=_ML, classlabels_strings=["a", "b", "c"]),
    ]  # fmt: skip
    return _estimator(nodes, _float("x", [1, 4]), TensorProto.STRING)


def _estimator(nodes: Any, taken: Any, label: int) -> Any:
    of = helper.make_map_type_proto(label, helper.make_tensor_type_proto(FLOAT, []))
    shares = helper.make_value_info("shares", helper.make_sequence_type_proto(of))
    outputs = [helper.make_tensor_value_info("label", label, [1]), shares]
    constants = [_ints("first", 0), _ints("second", 1), _ints("pair", 1, 2)]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(nodes, "estimator", [taken], outputs, [c for c in constants if c.name in used])
    return _model(graph, domains=[(_ML, 3)])
