"""with_weights: the same model with other numbers in some of its weights, in memory, to be run beside the one that was given."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import numpy as np

from coreproof.model.base import Model
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.coreml.weight_params import network_weights
from coreproof.model.formats import network, program

Array = np.ndarray


def with_weights(model: Model, others: Mapping[str, Array]) -> tuple[Model, frozenset[str]]:
    """A copy of ``model`` in which the weights of these names (``WeightRef.constant``) hold other numbers, and which did.

    Numbers are stored in the dtype that the weight has. The given model stays as it is, and shares all other weights with the
    copy. What cannot be exchanged (a weight of a nested graph) stays as it is.
    """
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.onnx.model import OnnxModel
    from coreproof.model.torch.model import TorchModel

    if isinstance(model, OnnxModel):
        return _onnx(model, others)
    if isinstance(model, TorchModel):
        return _torch(model, others)
    assert isinstance(model, CoreMLModel)
    spec = Model_pb2.Model()
    spec.CopyFrom(model.spec)
    if model.is_program:
        done = _set_constants(program.main(spec), others)
    elif model.is_network:
        done = _set_params(spec, others)
    else:
        return model, frozenset()
    return model.with_spec(spec), done


def constant_of(layer: str, parameter: str) -> str:
    """What a weight of a NeuralNetwork is called here, which has no name of its own."""
    return f"{layer}:{parameter}"


def _onnx(model: Model, others: Mapping[str, Array]) -> tuple[Model, frozenset[str]]:
    import onnx_ir as ir

    from coreproof.model.onnx.model import OnnxModel

    assert isinstance(model, OnnxModel)
    changed = model.ir.clone()
    done = set()
    for name, value in changed.graph.initializers.items():
        if (array := others.get(name)) is not None and value.const_value is not None:
            value.const_value = ir.Tensor(array.astype(value.const_value.dtype.numpy()), name=name)
            done.add(name)
    return model.with_graph(changed, lambda: bytes(ir.to_proto(changed).SerializeToString())), frozenset(done)


def _torch(model: Model, others: Mapping[str, Array]) -> tuple[Model, frozenset[str]]:
    from coreproof.model.torch.model import TorchModel, import_torch

    assert isinstance(model, TorchModel)
    torch = import_torch()
    changed = copy(model)
    held = {**dict(model.module.named_parameters(remove_duplicate=False)), **dict(model.module.named_buffers())}
    made = {
        name: torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(held[name].dtype)
        for name, array in others.items()
        if name in held
    }
    # one parameter may have several names: a table of words that is a classifier too
    own = {id(held[name]): tensor for name, tensor in made.items()}
    changed.other_weights = {name: own[id(tensor)] for name, tensor in held.items() if id(tensor) in own}
    return changed, frozenset(changed.other_weights)


def _set_constants(block: MIL_pb2.Block, others: Mapping[str, Array]) -> frozenset[str]:
    done = set()
    for operation in block.operations:
        name = program.writes(operation)[0] if operation.type == "const" else ""
        if (array := others.get(name)) is not None:
            value = operation.attributes["val"]
            half = program.MIL_DTYPES[value.type.tensorType.dataType] == "float16"
            value.ClearField("value")
            if half:
                value.immediateValue.tensor.bytes.values = array.astype(np.float16).tobytes()
            else:
                value.immediateValue.tensor.floats.values.extend(array.astype(np.float32).reshape(-1).tolist())
            done.add(name)
    return frozenset(done)


def _set_params(spec: Model_pb2.Model, others: Mapping[str, Array]) -> frozenset[str]:
    done = set()
    for layer in network.main(spec).layers:
        operator = layer.WhichOneof("layer")
        for parameter, params in () if operator is None else network_weights(getattr(layer, operator)):
            name = constant_of(layer.name, parameter)
            if (array := others.get(name)) is not None:
                params.Clear()
                params.floatValue.extend(array.astype(np.float32).reshape(-1).tolist())
                done.add(name)
    return frozenset(done)
