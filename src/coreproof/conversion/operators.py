"""The operators of all formats: a registry for each that is lowered, and what is true of an operation however it is spelled.

Nothing heavy is loaded here. A registry imports its handlers when it is asked for the first time, and they import neither
coremltools nor PyTorch before they run.
"""

from __future__ import annotations

import inspect
from functools import lru_cache

from coreproof.conversion import registry
from coreproof.conversion.registry import ErrorClass, Meaning, Registry
from coreproof.model.graph import Node

_HERE = "coreproof.conversion"

ONNX = Registry("ONNX", f"{_HERE}.onnx_to_coreml.ops")
"""``handler(context, *operands, **attributes)`` makes MIL of an ONNX node; versions are opsets."""

MIL = Registry("ML Program", f"{_HERE}.coreml_to_onnx.mlprogram.ops", first=15)
"""``handler(lowering, **inputs)`` makes ONNX of a MIL operation; versions are those of iOS."""

LAYERS = Registry("NeuralNetwork", f"{_HERE}.coreml_to_onnx.neuralnetwork.ops")
"""``handler(layer, *blobs, **fields)`` makes ONNX of a NeuralNetwork layer."""

COREAI = Registry("Core AI", f"{_HERE}.coreai_to_onnx.ops")
"""``handler(lowering, *operands)`` makes ONNX of a Core AI operation, named without its dialect."""

TO_COREAI = Registry("ML Program to Core AI", f"{_HERE}.mil_to_coreai.ops", first=15)
"""``handler(translation, **inputs)`` makes operations of Core AI of a MIL operation; versions are those of iOS."""

PYTORCH = Registry("PyTorch")
"""Operators of PyTorch's own, which no handler here lowers, and other tools' words for the same."""


@lru_cache(4096)  # verify asks some twenty times for each value and sample
def meaning(operator: str) -> Meaning:
    """What is true of the operation of this name, whichever format says so."""
    for known in (ONNX, MIL, LAYERS, COREAI):
        known.load()
    return registry.meaning(operator)


@lru_cache(4096)
def error_class(operator: str) -> ErrorClass:
    """How this operator passes an error on; "elementwise" where it is not known."""
    return meaning(operator).get("error", "elementwise")


@lru_cache(4096)
def canonical_op(operator: str) -> str:
    """One word for the same operation in every format ("conv", "linear", "norm", ...)."""
    return meaning(operator).get("word") or registry.normalise_op_name(operator)


def operation_of(node: Node) -> str:
    """What a layer computes, also where its operator is a family and a field says which: a NeuralNetwork's "activation"."""
    if node.operator == "unary":
        return str(node.attributes.get("type", node.operator)).lower()
    kind = next(iter(node.attributes), "").partition(".")[0] if node.operator == "activation" else ""
    # a "linear" activation scales and shifts single elements: elsewhere the word means a product of matrices
    return node.operator if kind in ("", "linear") else kind


def default(operator: str, parameter: str) -> object:
    """What a parameter of an operator is where a file does not say it; None where the operator or the parameter is not known.

    The handlers' signatures hold the defaults of each format's definition: the axis of an ArgMax is the first, that of a
    reduce_argmax the last.
    """
    for known in (ONNX, MIL, LAYERS):
        handler = known.find(operator)
        said = None if handler is None else inspect.signature(handler).parameters.get(parameter)
        if said is not None:
            return None if said.default is said.empty else said.default
    return None


def several(operation: str) -> tuple[str, ...]:
    """The parameters of a MIL operation that are bound to several values."""
    traits = MIL.traits(operation)
    return (*((traits["variadic"],) if "variadic" in traits else ()), *traits.get("tuples", ()))


PYTORCH.describe("to_copy", hands_on="whole")
_say = PYTORCH.describe
_say(
    *(
        "view",
        "unsafe_view",
        "chunk",
        "unbind",
        "repeat",
        "index",
        "index_select",
        "narrow",
        "alias",
        "clone",
        "contiguous",
    ),
    *(
        "detach",
        "constant_pad_nd",
        "reflection_pad2d",
        "replication_pad2d",
        "amax",
        "amin",
        "slice_scatter",
        "select_scatter",
    ),
    *("getitem", "upsample_nearest2d", "flip", "roll", "lift", "lift_fresh_copy", "to_copy", "cat"),
    error="move",
)
_say("clamp", "hardtanh", error="move", word="clip")
_say("clamp_min", error="move")
_say("max_pool2d", "max_pool2d_with_indices", error="move", word="maxpool")
_say("conv1d", "conv2d", "conv3d", error="linear", word="conv")
_say("mm", "bmm", "addmm", error="linear", word="linear")
_say("conv_transposed", "deconvolution", "baddbmm", "sdpa", "attention", error="linear")
_say(
    *("scaled_dot_product_flash_attention", "scaled_dot_product_flash_attention_for_cpu"),
    "scaled_dot_product_attention_math",
    error="linear",
)
_say("avg_pool2d", error="average", word="avgpool")
_say("mean_dim", "adaptive_avg_pool2d", error="average", word="mean")
_say("sum", "sum_dim_int_list", "mean", error="average")
_say("upsample_bilinear2d", "upsample_bicubic2d", error="average", interpolates=True)
_say("native_batch_norm", "native_batch_norm_legit_no_training", error="norm", word="norm")
_say("native_layer_norm", error="norm", word="layernorm")
_say("group_norm", "native_group_norm", "rms_norm", error="norm")
_say("add_nd", error="add", word="add")
_say("rsub", error="add")
_say("rint", steps=True)
_say("sort", indices=1)
_say("gt", "ge", "lt", "le", "eq", "ne", compares=True)
