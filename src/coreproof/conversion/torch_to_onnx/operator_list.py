"""What is added to the exporter's list of operators: PyTorch operator -> the function that writes it in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.adaptive import adaptive_operators
from coreproof.conversion.torch_to_onnx.batch_norm import batch_norm_operators
from coreproof.conversion.torch_to_onnx.complex_forms import complex_operators
from coreproof.conversion.torch_to_onnx.complex_functions import complex_functions
from coreproof.conversion.torch_to_onnx.complex_parts import complex_parts, filled
from coreproof.conversion.torch_to_onnx.counted import counting_operators
from coreproof.conversion.torch_to_onnx.experts import expert_operators
from coreproof.conversion.torch_to_onnx.factored import factor_operators
from coreproof.conversion.torch_to_onnx.forms import keeping_forms
from coreproof.conversion.torch_to_onnx.losses import loss_operators
from coreproof.conversion.torch_to_onnx.matrices import matrix_operators
from coreproof.conversion.torch_to_onnx.of_lengths import length_operators
from coreproof.conversion.torch_to_onnx.operands import operand_operators
from coreproof.conversion.torch_to_onnx.ordered import ordered_operators
from coreproof.conversion.torch_to_onnx.picked import picking_operators
from coreproof.conversion.torch_to_onnx.placed import placing_operators
from coreproof.conversion.torch_to_onnx.quantised import quantised_operators
from coreproof.conversion.torch_to_onnx.recurrent import recurrent_operators
from coreproof.conversion.torch_to_onnx.resampled import resampling_operators
from coreproof.conversion.torch_to_onnx.rewritten import rewritten_operators
from coreproof.conversion.torch_to_onnx.sliding import cut_into_windows
from coreproof.conversion.torch_to_onnx.special import special_operators
from coreproof.conversion.torch_to_onnx.written_out import written_out_operators
from coreproof.model.torch.model import import_torch
from coreproof.model.torch.operator_list import OperatorList

Written = Mapping[Callable[..., object], Callable[..., object]]


def add_ours(known: OperatorList) -> None:
    """Adds how operators are written that PyTorch's own exporter does not know, or writes down as something else."""
    for operator, written in _of_complex_numbers(known).items():
        known.register_op(operator, written, is_complex=True)
    for operator, written in _of_real_numbers().items():
        known.register_op(operator, written)
    for of_known in (operand_operators, counting_operators):
        for operator, written in of_known(partial(_for_real_numbers, known)).items():
            known.register_op(operator, written)
    aten = import_torch().ops.aten
    for operator, value in ((aten.full.default, None), (aten.zeros.default, 0), (aten.ones.default, 1)):
        real = next(each.onnx_function for each in known.get_decomps(operator) if not each.is_complex)
        known.register_op(operator, filled(real, value))
    (windows,) = known.get_decomps(aten.im2col.default)
    known.register_op(aten.im2col.default, cut_into_windows(windows.onnx_function))


def _of_complex_numbers(known: OperatorList) -> Written:
    """How the operators are written where an operand is complex, that PyTorch's list leaves out."""
    return {**complex_operators(), **complex_functions(), **complex_parts(partial(_for_real_numbers, known))}


def _for_real_numbers(known: OperatorList, operator: Callable[..., object]) -> Callable[..., ir.Value] | None:
    return next((each.onnx_function for each in known.get_decomps(operator) if not each.is_complex), None)


def _of_real_numbers() -> Written:
    return {
        **keeping_forms(),
        **rewritten_operators(),
        **loss_operators(),
        **batch_norm_operators(),
        **ordered_operators(),
        **matrix_operators(),
        **written_out_operators(),
        **adaptive_operators(),
        **expert_operators(),
        **recurrent_operators(),
        **resampling_operators(),
        **special_operators(),
        **factor_operators(),
        **placing_operators(),
        **picking_operators(),
        **quantised_operators(),
        **length_operators(),
    }
