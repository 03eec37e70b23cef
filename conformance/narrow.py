"""Networks in few bits: quantised by ONNX Runtime (QuantizeLinear and DequantizeLinear), compressed by coremltools."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from coreproof.model.onnx.model import OnnxModel, load_onnx

SAMPLES = 8
"""Random samples that quantisation is calibrated on."""


def quantised(source: OnnxModel, seed: int = 0, per_channel: bool = True) -> OnnxModel:
    """The network with int8 weights and uint8 values, each quantised and dequantised where it stands (QDQ)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    feature = source.signature.inputs[0]
    shape = [n if isinstance(n, int) else 1 for n in feature.shape or ()]
    drawn = (np.random.default_rng(seed + i).standard_normal(shape).astype(np.float32) for i in range(SAMPLES))

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            array = next(drawn, None)
            return None if array is None else {feature.name: array}

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.save(before)
        quantize_static(
            before,
            after,
            Samples(),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return OnnxModel(load_onnx(after).ir, name=f"{source.name}_int8")


def _palettised(model: Any, config: Any) -> Any:
    import coremltools.optimize.coreml as optimise

    return optimise.palettize_weights(
        model, config(optimise.OpPalettizerConfig(nbits=4, mode="uniform", weight_threshold=64))
    )


def _linear(model: Any, config: Any) -> Any:
    import coremltools.optimize.coreml as optimise

    return optimise.linear_quantize_weights(model, config(optimise.OpLinearQuantizerConfig(weight_threshold=64)))


def _pruned(model: Any, config: Any) -> Any:
    import coremltools.optimize.coreml as optimise

    return optimise.prune_weights(
        model, config(optimise.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=64))
    )


COMPRESSIONS: dict[str, Callable[[Any, Any], Any]] = {
    "palettised": _palettised,
    "linear": _linear,
    "pruned": _pruned,
}
"""name -> coremltools' way of compressing an MLModel."""


def compressed(module: Any, example: Any, how: str, target: str = "iOS18", *, half: bool = True) -> Any:
    """coremltools' own conversion of a module, its weights compressed: an MLModel."""
    import coremltools as ct
    import coremltools.optimize.coreml as optimise
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = ct.convert(
            torch.jit.trace(module, example, check_trace=False),
            inputs=[ct.TensorType(name="input", shape=example.shape)],
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
        )
        return COMPRESSIONS[how](made, lambda operator: optimise.OptimizationConfig(global_config=operator))


def all_compressed(module: Any, example: Any) -> Iterator[tuple[str, Any]]:
    """(name, MLModel) for each way and for the storage forms of iOS 16 and iOS 18."""
    for target in ("iOS16", "iOS18"):
        for how in COMPRESSIONS:
            yield f"{how} {target}", compressed(module, example, how, target)
