"""Healthy .mlmodel files, built message by message: networks, classifiers, pipelines, trees and the other kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.fuzz.files import Case
from coreproof.model.coreml.proto import Model_pb2

FLOAT32 = 65568
DOUBLE = 65600


def mlmodel_cases() -> list[Case]:
    """The cases, each with its weight among the mutants."""
    made = {
        "network": (_network(), 4),
        "classifier": (classifier(), 3),
        "nd": (_nd(), 4),
        "recurrent": (_recurrent(), 2),
        "branching": (_branching(), 2),
        "quantized": (_quantized(), 2),
        "pipeline": (_pipeline(), 3),
        "trees": (_trees(), 1),
        "linear": (_linear(), 1),
        "scaler": (_scaler(), 1),
        "vectorizer": (_vectorizer(), 1),
        "mapping": (_mapping(), 1),
        "updatable": (_updatable(), 1),
    }
    return [
        Case(name, {f"{name}.mlmodel": spec.SerializeToString(deterministic=True)}, f"{name}.mlmodel", weight)
        for name, (spec, weight) in made.items()
    ]


def array(feature: Any, name: str, *shape: int, dtype: int = FLOAT32) -> None:
    """Declares an array."""
    feature.name = name
    feature.type.multiArrayType.dataType = dtype
    feature.type.multiArrayType.shape.extend(shape)


def picture(feature: Any, name: str, width: int, height: int) -> None:
    """Declares an RGB picture."""
    feature.name = name
    feature.type.imageType.width, feature.type.imageType.height, feature.type.imageType.colorSpace = width, height, 20


def _values(*shape: int, seed: int = 0) -> list[float]:
    return np.random.RandomState(seed).randn(*shape).astype(np.float32).ravel().tolist()


def _layer(network: Any, kind: str, inputs: str, outputs: str) -> Any:
    layer = network.layers.add(name=f"{kind} {outputs}", input=inputs.split(), output=outputs.split())
    getattr(layer, kind).SetInParent()
    return getattr(layer, kind)


def _convolution(network: Any, inputs: str, outputs: str, out: int, channels: int, size: int) -> Any:
    layer = _layer(network, "convolution", inputs, outputs)
    layer.outputChannels, layer.kernelChannels, layer.nGroups, layer.hasBias = out, channels, 1, True
    layer.kernelSize.extend([size, size])
    layer.stride.extend([1, 1])
    for _ in range(2):
        layer.valid.paddingAmounts.borderAmounts.add(startEdgeSize=0, endEdgeSize=0)
    layer.weights.floatValue.extend(_values(out, channels, size, size))
    layer.bias.floatValue.extend(_values(out))
    return layer


def _inner(network: Any, inputs: str, outputs: str, out: int, channels: int) -> Any:
    layer = _layer(network, "innerProduct", inputs, outputs)
    layer.inputChannels, layer.outputChannels, layer.hasBias = channels, out, True
    layer.weights.floatValue.extend(_values(out, channels))
    layer.bias.floatValue.extend(_values(out))
    return layer


def _network() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    array(spec.description.input.add(), "x", 3, 6, 6)
    array(spec.description.output.add(), "y")
    network = spec.neuralNetwork
    _convolution(network, "x", "c", 4, 3, 3)
    norm = _layer(network, "batchnorm", "c", "n")
    norm.channels, norm.epsilon = 4, 1e-5
    for name, value in (("gamma", 1.5), ("beta", 0.5), ("mean", 0.1), ("variance", 2.0)):
        getattr(norm, name).floatValue.extend([value] * 4)
    _layer(network, "activation", "n", "a").leakyReLU.alpha = 0.1
    pool = _layer(network, "pooling", "a", "p")
    pool.type = 1
    pool.kernelSize.extend([2, 2])
    pool.stride.extend([2, 2])
    pool.valid.SetInParent()
    _layer(network, "upsample", "p", "u").scalingFactor.extend([2, 2])
    padding = _layer(network, "padding", "u", "d")
    padding.constant.value = 0.5
    for _ in range(2):
        padding.paddingAmounts.borderAmounts.add(startEdgeSize=1, endEdgeSize=1)
    crop = _layer(network, "crop", "d", "k")
    for _ in range(2):
        crop.cropAmounts.borderAmounts.add(startEdgeSize=1, endEdgeSize=1)
    _layer(network, "add", "k a", "s")
    _layer(network, "concat", "s a", "t")
    permute = _layer(network, "permute", "t", "v")
    permute.axis.extend([0, 1, 3, 2])
    _layer(network, "reduce", "v", "r").axis = 2
    _layer(network, "flatten", "r", "f")
    _inner(network, "f", "i", 4, 16)
    _layer(network, "reshape", "i", "y").targetShape.extend([4, 1, 1])
    return spec


def classifier() -> Any:
    """A picture in, four labels out."""
    spec = Model_pb2.Model(specificationVersion=1)
    picture(spec.description.input.add(), "picture", 8, 8)
    spec.description.output.add(name="label").type.stringType.SetInParent()
    spec.description.output.add(name="probs").type.dictionaryType.stringKeyType.SetInParent()
    spec.description.predictedFeatureName, spec.description.predictedProbabilitiesName = "label", "probs"
    spec.description.metadata.author = "nobody"
    network = spec.neuralNetworkClassifier
    step = network.preprocessing.add(featureName="picture")
    step.scaler.channelScale = 1 / 255
    step.scaler.redBias = -0.5
    _convolution(network, "picture", "c", 2, 3, 3)
    _layer(network, "activation", "c", "a").ReLU.SetInParent()
    pool = _layer(network, "pooling", "a", "p")
    pool.type, pool.globalPooling = 1, True
    pool.valid.SetInParent()
    _inner(network, "p", "i", 4, 2)
    _layer(network, "softmax", "i", "scores")
    network.stringClassLabels.vector.extend(["ant", "bee", "cat", "dog"])
    network.labelProbabilityLayerName = "scores"
    return spec


def _nd() -> Any:
    """Layers of exact shapes, as coremltools 3 and 4 wrote them, with a flexible input."""
    spec = Model_pb2.Model(specificationVersion=4)
    feature = spec.description.input.add()
    array(feature, "x", 1, 4, 6)
    sizes = feature.type.multiArrayType.shapeRange.sizeRanges
    for low, high in ((1, 1), (4, 4), (2, 8)):
        sizes.add(lowerBound=low, upperBound=high)
    array(spec.description.output.add(), "y")
    array(spec.description.output.add(), "z")
    network = spec.neuralNetwork
    network.arrayInputShapeMapping = 1
    _layer(network, "transpose", "x", "t").axes.extend([0, 2, 1])
    product = _layer(network, "batchedMatmul", "x t", "m")
    product.transposeA = False
    _layer(network, "softmaxND", "m", "s").axis = -1
    cut = _layer(network, "sliceStatic", "s", "c")
    cut.beginIds.extend([0, 0, 0])
    cut.endIds.extend([1, 2, 4])
    cut.strides.extend([1, 1, 1])
    for flags in (cut.beginMasks, cut.endMasks):
        flags.extend([False, False, False])
    _layer(network, "expandDims", "c", "e").axes.extend([0])
    squeeze = _layer(network, "squeeze", "e", "q")
    squeeze.axes.extend([0])
    constant = _layer(network, "loadConstantND", "", "k")
    constant.shape.extend([1, 2, 4])
    constant.data.floatValue.extend(_values(1, 2, 4))
    _layer(network, "addBroadcastable", "q k", "b")
    mean = _layer(network, "reduceMean", "b", "r")
    mean.axes.extend([2])
    mean.keepDims = True
    _layer(network, "concatND", "r b", "y").axis = 2
    _layer(network, "getShape", "x", "h")
    _layer(network, "gather", "h k2", "g").axis = 0
    index = _layer(network, "loadConstantND", "", "k2")
    index.shape.extend([1])
    index.data.floatValue.extend([2.0])
    order = [layer.name for layer in network.layers]
    assert order[-1] == "loadConstantND k2"
    last = network.layers.pop()
    network.layers.insert(len(network.layers) - 1, last)
    top = _layer(network, "topK", "b", "z zi")
    top.axis, top.K = -1, 1
    return spec


def _recurrent() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    array(spec.description.input.add(), "x", 2)
    for name in ("h", "c"):
        array(spec.description.input.add(), f"{name}_in", 3)
        spec.description.input[-1].type.isOptional = True
        array(spec.description.output.add(), f"{name}_out", 3)
    array(spec.description.output.add(), "y", 3)
    layer = _layer(spec.neuralNetwork, "uniDirectionalLSTM", "x h_in c_in", "y h_out c_out")
    layer.inputVectorSize, layer.outputVectorSize, layer.params.hasBiasVectors = 2, 3, True
    for activation in ("sigmoid", "tanh", "tanh"):
        getattr(layer.activations.add(), activation).SetInParent()
    for gate in ("inputGate", "forgetGate", "blockInput", "outputGate"):
        getattr(layer.weightParams, f"{gate}WeightMatrix").floatValue.extend(_values(3, 2))
        getattr(layer.weightParams, f"{gate}RecursionMatrix").floatValue.extend(_values(3, 3))
        getattr(layer.weightParams, f"{gate}BiasVector").floatValue.extend(_values(3))
    return spec


def _branching() -> Any:
    spec = Model_pb2.Model(specificationVersion=4)
    array(spec.description.input.add(), "x", 2, 2)
    array(spec.description.output.add(), "y")
    network = spec.neuralNetwork
    network.arrayInputShapeMapping = 1
    total = _layer(network, "reduceSum", "x", "s")
    total.reduceAll = True
    _layer(network, "greaterThan", "s", "c").alpha = 0.0
    branch = _layer(network, "branch", "c", "")
    for inner, alpha in ((branch.ifBranch, 2.0), (branch.elseBranch, 3.0)):
        _layer(inner, "multiplyBroadcastable", "x x", "m")
        _layer(inner, "activation", "m", "mm").linear.alpha = alpha
        _layer(inner, "copy", "mm", "y")
    return spec


def _quantized() -> Any:
    spec = Model_pb2.Model(specificationVersion=4)
    array(spec.description.input.add(), "x", 8)
    array(spec.description.output.add(), "y")
    network = spec.neuralNetwork
    layer = _inner(network, "x", "i", 4, 8)
    layer.weights.ClearField("floatValue")
    layer.weights.rawValue = bytes(range(32))
    layer.weights.quantization.numberOfBits = 8
    layer.weights.quantization.linearQuantization.scale.extend([0.1, 0.2, 0.3, 0.4])
    layer.weights.quantization.linearQuantization.bias.extend([-1.0] * 4)
    layer.bias.ClearField("floatValue")
    layer.bias.float16Value = np.arange(4).astype(np.float16).tobytes()
    table = _inner(network, "i", "y", 2, 4)
    table.weights.ClearField("floatValue")
    table.weights.rawValue = b"\x1b\xe4"
    table.weights.quantization.numberOfBits = 2
    table.weights.quantization.lookupTableQuantization.floatValue.extend([-1.0, -0.5, 0.5, 1.0])
    return spec


def _pipeline() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    stages = spec.pipelineClassifier.pipeline
    network = Model_pb2.Model(specificationVersion=1)
    picture(network.description.input.add(), "picture", 6, 6)
    array(network.description.output.add(), "features", 2)
    _convolution(network.neuralNetwork, "picture", "c", 2, 3, 6)
    _layer(network.neuralNetwork, "flatten", "c", "features")
    last = Model_pb2.Model(specificationVersion=1)
    array(last.description.input.add(), "features", 2, dtype=DOUBLE)
    _labelled(last)
    last.glmClassifier.weights.add(value=[0.5, -0.5])
    last.glmClassifier.offset.append(0.1)
    last.glmClassifier.stringClassLabels.vector.extend(["cat", "dog"])
    stages.models.extend([network, last])
    stages.names.extend(["network", "classifier"])
    spec.description.CopyFrom(last.description)
    del spec.description.input[:]
    picture(spec.description.input.add(), "picture", 6, 6)
    return spec


def _labelled(spec: Any) -> None:
    spec.description.output.add(name="label").type.stringType.SetInParent()
    spec.description.output.add(name="probs").type.dictionaryType.stringKeyType.SetInParent()
    spec.description.predictedFeatureName, spec.description.predictedProbabilitiesName = "label", "probs"


def _trees() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    array(spec.description.input.add(), "x", 2, dtype=DOUBLE)
    _labelled(spec)
    trees = spec.treeEnsembleClassifier
    trees.treeEnsemble.numPredictionDimensions = 1
    trees.treeEnsemble.basePredictionValue.append(0.0)
    for tree in range(2):
        nodes = trees.treeEnsemble.nodes
        nodes.add(treeId=tree, nodeId=0, nodeBehavior=0, branchFeatureIndex=tree, branchFeatureValue=0.5,
                  trueChildNodeId=1, falseChildNodeId=2)  # fmt: skip
        for leaf in (1, 2):
            nodes.add(treeId=tree, nodeId=leaf, nodeBehavior=6).evaluationInfo.add(
                evaluationIndex=0, evaluationValue=leaf - 1.5
            )
    trees.postEvaluationTransform = 2
    trees.stringClassLabels.vector.extend(["no", "yes"])
    return spec


def _linear() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    for name in ("rooms", "size"):
        spec.description.input.add(name=name).type.doubleType.SetInParent()
    spec.description.output.add(name="price").type.doubleType.SetInParent()
    spec.description.predictedFeatureName = "price"
    vector, regressor = spec.pipelineRegressor.pipeline.models.add(specificationVersion=1), None
    for name in ("rooms", "size"):
        vector.description.input.add(name=name).type.doubleType.SetInParent()
        vector.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=1)
    array(vector.description.output.add(), "all", 2, dtype=DOUBLE)
    regressor = spec.pipelineRegressor.pipeline.models.add(specificationVersion=1)
    array(regressor.description.input.add(), "all", 2, dtype=DOUBLE)
    regressor.description.output.add(name="price").type.doubleType.SetInParent()
    regressor.description.predictedFeatureName = "price"
    regressor.glmRegressor.weights.add(value=[2.0, 3.0])
    regressor.glmRegressor.offset.append(1.0)
    return spec


def _scaler() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    array(spec.description.input.add(), "x", 3, dtype=DOUBLE)
    array(spec.description.output.add(), "y", 3, dtype=DOUBLE)
    spec.scaler.shiftValue.extend([1.0, 2.0, 3.0])
    spec.scaler.scaleValue.extend([0.5, 0.5, 0.5])
    return spec


def _vectorizer() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    spec.description.input.add(name="word").type.stringType.SetInParent()
    array(spec.description.output.add(), "y", 3, dtype=DOUBLE)
    spec.oneHotEncoder.stringCategories.vector.extend(["a", "b", "c"])
    return spec


def _mapping() -> Any:
    spec = Model_pb2.Model(specificationVersion=1)
    spec.description.input.add(name="words").type.dictionaryType.stringKeyType.SetInParent()
    array(spec.description.output.add(), "y", 2, dtype=DOUBLE)
    spec.dictVectorizer.stringToIndex.vector.extend(["one", "two"])
    return spec


def _updatable() -> Any:
    spec = Model_pb2.Model(specificationVersion=4, isUpdatable=True)
    spec.CopyFrom(_quantized())
    spec.isUpdatable = True
    array(spec.description.trainingInput.add(), "x", 8)
    spec.neuralNetwork.updateParams.epochs.defaultValue = 3
    spec.neuralNetwork.updateParams.lossLayers.add(name="loss").meanSquaredErrorLossLayer.input = "y"
    return spec
