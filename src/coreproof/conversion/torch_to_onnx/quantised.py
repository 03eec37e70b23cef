"""Quantised PyTorch modules: sums of 8-bit products that the exporter lacks, and what of them cannot become ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import operators
from coreproof.errors import ConversionError
from coreproof.model.torch.model import TorchModel, import_torch


def quantised_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    return {import_torch().ops.aten._int_mm.default: int_mm}  # noqa: SLF001 - what int8 weights are multiplied by


def int_mm(a: ir.Value, b: ir.Value) -> ir.Value:
    """Whole numbers of 8 bits, multiplied and added up in 32."""
    return operators().MatMulInteger(a, b)


# by the packages that hold their classes: each kind of layer has one of its own
_PACKED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.nn.quantized",
    "torch.ao.nn.sparse.quantized",
)
_OBSERVED = ("torch.ao.quantization.fake_quantize", "torch.ao.quantization.observer", "torch.ao.nn.qat")


def refuse_quantised(model: TorchModel, error: Exception) -> None:
    """Raises ConversionError where no exporter takes a module because layers of it are quantised, or are still learning to be."""
    of = {name: type(m).__module__ for name, m in model.module.named_modules()}
    packed = [n for n, module in of.items() if module.startswith(_PACKED) and not n.endswith("_packed_params")]
    observed = [name for name, module in of.items() if module.startswith(_OBSERVED)]
    found = packed or observed
    if not found:
        return
    kinds = ", ".join(
        f"{name or 'the module'} ({type(model.module.get_submodule(name)).__name__})" for name in found[:5]
    )
    if packed:
        raise ConversionError(
            f"{len(found)} layer(s) are quantised by PyTorch's eager mode, whose packed weights ONNX cannot hold",
            where=model.name,
            expected="a float module, or an exported program that is quantised (prepare_pt2e, convert_pt2e)",
            found=kinds,
            fix="convert the float module with --compress linear:8, which stores 8-bit weights as well; to quantise activations "
            "too, use convert_pt2e",
        ) from error
    raise ConversionError(
        f"{len(found)} layer(s) still observe what they are fed, to be quantised by it",
        where=model.name,
        expected="a module after convert, or convert_pt2e",
        found=kinds,
        fix="call torch.ao.quantization.convert(module.eval()), or convert_pt2e, first",
    ) from error
