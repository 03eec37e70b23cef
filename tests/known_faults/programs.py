"""For each known fault of Core ML a model that has its pattern, and its near misses, which have not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import coreproof as cp
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from tests.build import mil, onnx_net
from tests.build.programs import quietly_converted

Made = Callable[[Path], Model]
half = np.float16


def made(build: Callable[..., Any], *shapes: tuple[int, ...], wide: bool = False, target: str = "iOS17") -> Made:
    """A program in float16, or float32 where it is ``wide``."""
    return lambda folder: mil(folder, build, *shapes, half=not wide, target=target)


def softplus(mb: Any, x: Any) -> Any:
    return mb.softplus(x=x, name="y")


def softplus_of_minus(mb: Any, x: Any) -> Any:
    return mb.softplus(x=mb.mul(x=mb.abs(x=x), y=half(-2)), name="y")


def written_out(one: float) -> Callable[..., Any]:
    return lambda mb, x: mb.log(x=mb.add(x=mb.exp(x=x), y=half(one)), epsilon=half(0), name="y")


def logsumexp(mb: Any, x: Any) -> Any:
    return mb.reduce_log_sum_exp(x=x, axes=[1], keep_dims=False, name="y")


def shifted_logsumexp(mb: Any, x: Any) -> Any:
    lower = mb.sub(x=x, y=mb.reduce_max(x=x, axes=[1], keep_dims=True))
    return mb.reduce_log_sum_exp(x=lower, axes=[1], keep_dims=False, name="y")


def log_softmax(epsilon: float) -> Callable[..., Any]:
    return lambda mb, x: mb.log(x=mb.softmax(x=x, axis=-1), epsilon=half(epsilon), name="y")


def logcumsumexp(mb: Any, x: Any) -> Any:
    return mb.log(x=mb.cumsum(x=mb.exp(x=x), axis=1), epsilon=half(0), name="y")


def shifted_logcumsumexp(mb: Any, x: Any) -> Any:
    lower = mb.sub(x=x, y=mb.reduce_max(x=x, axes=[1], keep_dims=True))
    return mb.log(x=mb.cumsum(x=mb.exp(x=lower), axis=1), epsilon=half(0), name="y")


def attention(mb: Any, q: Any, k: Any, v: Any, bias: Any) -> Any:
    scores = mb.mul(x=mb.matmul(x=q, y=k, transpose_y=True), y=np.float32(0.5))
    return mb.matmul(x=mb.softmax(x=mb.add(x=scores, y=bias), axis=-1), y=v, name="y")


def attention_without_bias(mb: Any, q: Any, k: Any, v: Any) -> Any:
    return mb.matmul(x=mb.softmax(x=mb.matmul(x=q, y=k, transpose_y=True), axis=-1), y=v, name="y")


def cropped(length: int) -> Callable[..., Any]:
    kernel = np.ones((1, 2, 3, 3), np.float32)
    shape = [1, 2, length, length]
    return lambda mb, x: mb.conv_transpose(x=x, weight=kernel, output_shape=shape, name="y")


def padded(before: int, after: int) -> Callable[..., Any]:
    kernel = np.arange(6, dtype=np.float16).reshape(1, 2, 3)
    settings: dict[str, Any] = {"pad": [before, after], "pad_type": "custom", "strides": [2]}
    return lambda mb, x: mb.conv_transpose(x=x, weight=kernel, name="y", **settings)


def matmul(mb: Any, x: Any, y: Any) -> Any:
    return mb.matmul(x=x, y=y, name="y")


def whole_matmul(mb: Any, x: Any, y: Any) -> Any:
    return mb.matmul(x=mb.cast(x=x, dtype="int32"), y=mb.cast(x=y, dtype="int32"), name="y")


def gather_nd(mb: Any, x: Any, places: Any) -> Any:
    inside = mb.cast(x=mb.clip(x=places, alpha=0.0, beta=3.9), dtype="int32")
    return mb.gather_nd(x=x, indices=mb.expand_dims(x=inside, axes=[-1]), name="y")


def stored_gather_nd(mb: Any, x: Any) -> Any:
    return mb.gather_nd(x=x, indices=np.array([[1], [3]], np.int32), name="y")


def grid_sample(mb: Any, x: Any, places: Any) -> Any:
    settings = {"sampling_mode": "bilinear", "padding_mode": "constant", "align_corners": True}
    settings |= {"coordinates_mode": "normalized_minus_one_to_one", "padding_value": half(0)}
    return mb.resample(x=x, coordinates=places, name="y", **settings)


def wide_grid_sample(mb: Any, x: Any, places: Any) -> Any:
    settings = {"sampling_mode": "bilinear", "padding_mode": "constant", "align_corners": True}
    settings |= {"coordinates_mode": "normalized_minus_one_to_one", "padding_value": np.float32(0)}
    return mb.resample(x=x, coordinates=places, name="y", **settings)


def fused(mb: Any, q: Any, k: Any, v: Any) -> Any:
    return mb.scaled_dot_product_attention(query=q, key=k, value=v, name="y")


def heads(queries: int, head: int) -> Made:
    return made(fused, (1, 2, queries, head), (1, 2, 5, head), (1, 2, 5, 8), target="iOS18")


def branching(folder: Path) -> Model:
    """A NeuralNetwork that goes one of two ways."""
    net = onnx_net([("Relu", "x", "y", {})], {"x": [1, 2]}, {"y": [1, 2]})
    found = cp.convert(net, "neuralnetwork", target="iOS14", check=False)
    assert isinstance(found, CoreMLModel)
    layer = found.spec.neuralNetwork.layers.add(name="either", input=["x"])
    layer.branch.ifBranch.CopyFrom(NeuralNetwork_pb2.NeuralNetwork())
    return found


def remembering(width: int, palette: bool = False) -> Made:
    """A program that adds what it is fed to a state of rank 4."""

    def build(folder: Path) -> Model:
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        shape = (1, 1, 2, width)

        @mb.program(
            input_specs=[mb.TensorSpec(shape, dtype=types.fp16), mb.StateTensorSpec(shape, dtype=types.fp16)],
            opset_version=ct.target.iOS18,
        )
        def written(x: Any, s: Any) -> Any:
            told = mb.read_state(input=s)
            if palette:
                indices = np.zeros(shape, types.np_uint4_dtype)
                table = np.arange(16, dtype=np.float16).reshape(1, 1, 1, 1, 16, 1)
                told = mb.mul(x=told, y=mb.constexpr_lut_to_dense(indices=indices, lut=table))
            new = mb.add(x=told, y=x, name="y")
            mb.coreml_update_state(state=s, value=new)
            return new

        settings = {"compute_precision": ct.precision.FLOAT16, "minimum_deployment_target": ct.target.iOS18}
        quietly_converted(folder, written, pass_pipeline=ct.PassPipeline.EMPTY, **settings)
        return cp.load(folder / "program.mlpackage")

    return build


def with_lists(*shapes: list[tuple[int, ...]], operator: str = "add", labels: bool = False) -> Made:
    """A program whose inputs take these lists of shapes."""

    def build(folder: Path) -> Model:
        names = [chr(ord("a") + i) for i in range(len(shapes))]

        def body(mb: Any, *values: Any) -> Any:
            if operator == "layer_norm":
                return mb.layer_norm(x=values[0], axes=[-1], name="y")
            return mb.relu(x=values[0], name="y") if len(values) == 1 else mb.add(x=values[0], y=values[1], name="y")

        found = mil(folder, body, *(options[0] for options in shapes), target="iOS17")
        steps = [cp.Edit("reshape", {"feature": n, "enumerated": o}) for n, o in zip(names, shapes, strict=True)]
        found = cp.edit(found, [step for step, o in zip(steps, shapes, strict=True) if len(o) > 1], check=False).model
        assert isinstance(found, CoreMLModel)
        if labels:
            found.spec.description.predictedFeatureName = "label"
            found.spec.description.output.add(name="label").type.stringType.SetInParent()
            return CoreMLModel(found.spec, name=found.name)
        return found

    return build


def scaled_palette(scaled: bool) -> Made:
    def build(mb: Any, x: Any) -> Any:
        from coremltools.converters.mil.mil import types

        table = np.arange(16, dtype=np.float16).reshape(1, 1, 16, 1)
        weight = mb.constexpr_lut_to_dense(indices=np.ones((4, 3), types.np_uint4_dtype), lut=table)
        if scaled:
            weight = mb.constexpr_blockwise_shift_scale(data=weight, scale=np.ones((4, 1), np.float16))
        return mb.linear(x=x, weight=weight, name="y")

    return made(build, (1, 3), target="iOS18")


def relu(mb: Any, x: Any) -> Any:
    return mb.relu(x=x, name="y")


CASES: Mapping[str, tuple[Made, list[Made]]] = {
    "softplus-cliff": (made(softplus, (1, 4)), [made(softplus, (1, 4), wide=True), made(softplus_of_minus, (1, 4))]),
    "softplus-cliff-written-out": (made(written_out(1), (1, 4)), [made(written_out(2), (1, 4))]),
    "logsumexp-cliff": (
        made(logsumexp, (1, 4)),
        [made(logsumexp, (1, 4), wide=True), made(shifted_logsumexp, (1, 4))],
    ),
    "log-softmax-underflow": (made(log_softmax(0), (1, 4)), [made(log_softmax(1e-3), (1, 4))]),
    "logcumsumexp-overflow": (made(logcumsumexp, (1, 4)), [made(shifted_logcumsumexp, (1, 4))]),
    "attention-of-ten-samples": (
        made(attention, (10, 3, 4), (10, 5, 4), (10, 5, 2), (1, 3, 5), wide=True),
        [
            made(attention, (9, 3, 4), (9, 5, 4), (9, 5, 2), (1, 3, 5), wide=True),
            made(attention_without_bias, (10, 3, 4), (10, 5, 4), (10, 5, 2), wide=True),
        ],
    ),
    "cropped-conv-transpose": (made(cropped(4), (1, 1, 4, 4), wide=True), [made(cropped(6), (1, 1, 4, 4), wide=True)]),
    "shifted-conv-transpose": (
        made(padded(1, 0), (1, 1, 5)),
        [made(padded(1, 1), (1, 1, 5)), made(padded(1, 0), (1, 1, 5), wide=True)],
    ),
    "matmul-of-a-vector": (made(matmul, (4,), (4, 3), wide=True), [made(matmul, (1, 4), (4, 3), wide=True)]),
    "matmul-of-int32": (made(whole_matmul, (3, 4), (4, 2), wide=True), [made(matmul, (3, 4), (4, 2), wide=True)]),
    "computed-gather-nd": (made(gather_nd, (4, 3), (6,), wide=True), [made(stored_gather_nd, (4, 3), wide=True)]),
    "half-grid-sample": (
        made(grid_sample, (1, 2, 4, 4), (1, 3, 3, 2)),
        [made(wide_grid_sample, (1, 2, 4, 4), (1, 3, 3, 2), wide=True)],
    ),
    "wide-fused-attention": (heads(3, 512), [heads(1, 512), heads(3, 256)]),
    "branch-on-the-gpu": (branching, []),
    "uneven-state": (remembering(33), [remembering(64)]),
    "several-enumerated-inputs": (with_lists([(1, 3), (1, 4)], [(1, 3), (1, 4)]), [with_lists([(1, 3), (1, 4)])]),
    "classifier-of-enumerated-batches": (
        with_lists([(1, 3), (4, 3)], labels=True),
        [with_lists([(1, 3), (1, 4)], labels=True), with_lists([(1, 3), (4, 3)])],
    ),
    "enumerated-layer-norm": (
        with_lists([(1, 3), (2, 3)], operator="layer_norm"),
        [with_lists([(1, 3)], operator="layer_norm"), with_lists([(1, 3), (2, 3)])],
    ),
    "half-rows": (made(relu, (5, 13)), [made(relu, (5, 64)), made(relu, (1, 13)), made(relu, (5, 13), wide=True)]),
    "scaled-palette": (scaled_palette(True), [scaled_palette(False)]),
    "palette-beside-states": (remembering(64, palette=True), [remembering(64), scaled_palette(False)]),
}
"""fault -> what has its pattern, and what is near it and has not."""
