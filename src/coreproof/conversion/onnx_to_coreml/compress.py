"""Compresses the weights of a MIL program before it is written, with coremltools' own passes (``coremltools.optimize``)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.compression_scheme import Scheme, SchemeStep
from coreproof.conversion.onnx_to_coreml.mil import Block, Operation, Program, Var
from coreproof.conversion.onnx_to_coreml.node_form import said
from coreproof.conversion.onnx_to_coreml.packed import FEWEST
from coreproof.conversion.onnx_to_coreml.quiet import quiet
from coreproof.errors import ConversionError, CoreproofError, InputError


@dataclass(frozen=True)
class Weight:
    """A constant that an operation (``layer``) reads as its ``parameter``; ``names`` are all that it is called."""

    layer: str
    parameter: str
    operator: str
    names: frozenset[str]
    constant: Operation


def compress_weights(
    program: Program, scheme: Scheme, keep: Collection[str], provenance: Mapping[str, str], graph: ir.Graph
) -> list[str]:
    """Compresses the weights in place; what there is to say about it.

    Weights that would not become smaller stay as they are, and those that ``keep`` names: layers, weights ("layer:weight"), or
    operators, of Core ML or of ONNX. Raises InputError where such a name is none, ConversionError where nothing is compressed.
    """
    made_by = {value.name: node.op_type for node in graph.all_nodes() for value in node.outputs if value.name}
    found = list(_weights(program, provenance, made_by))
    _check_names(keep, found)
    asked = [weight for weight in found if weight.names.isdisjoint(keep)]
    chosen = [weight for weight in asked if _shrinks(weight, scheme)]
    if not chosen:
        raise ConversionError(
            f"{scheme} compresses nothing here",
            expected="weights of rank 2 and more that become smaller",
            found=f"{len(found)} weights, of which {len(found) - len(asked)} are to be kept and none of the others gets smaller",
        )
    allowed = {(weight.layer, weight.parameter) for weight in chosen}
    for index, step in enumerate(scheme.steps):
        table = index > 0 and scheme.steps[0].kind == "palettize"  # whose entries are quantised, with one scale for all
        _apply(program, replace(step, tensor=True) if table else step, allowed, joint=index > 0)
    small = len(asked) - len(chosen)
    notes = []
    if small:
        notes.append(f"{small} weights are so small that {scheme} would not make them smaller; they stay as they are")
    # what coremltools passed over, without an error, is a plain constant still
    now = [(weight.layer, weight.parameter) for weight in _weights(program, provenance, made_by)]
    uncut = [f"{layer}:{parameter}" for layer, parameter in now if (layer, parameter) in allowed]
    if uncut:
        notes.append(f"{', '.join(uncut)} stay as they are: their lengths are no multiple of what {scheme} groups")
    return notes


def _weights(program: Program, provenance: Mapping[str, str], made_by: Mapping[str, str]) -> Iterator[Weight]:
    seen: set[int] = set()
    for operation in _operations(program.functions.values()):
        if operation.op_type == "const" or operation.op_type.startswith("constexpr_"):
            continue
        for parameter, var in _inputs(operation):
            constant = var.op
            if constant is None or constant.op_type != "const" or id(constant) in seen:
                continue
            value = var.val
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim < 2 or value.size < FEWEST:
                continue
            # one number throughout (a recurrent layer's initial state) is no weight, and makes no table of several
            if value.min() == value.max():
                continue
            seen.add(id(constant))
            layer = operation.outputs[0].name
            source = provenance.get(layer, layer)
            known = {layer, source, f"{layer}:{parameter}", f"{source}:{parameter}", operation.op_type, var.name}
            if source in made_by:
                known.add(made_by[source])
            yield Weight(layer, parameter, operation.op_type, frozenset(known), constant)


def _operations(blocks: Collection[Block]) -> Iterator[Operation]:
    for block in blocks:
        for operation in block.operations:
            yield from _operations(operation.blocks)
            yield operation


def _inputs(operation: Operation) -> Iterator[tuple[str, Var]]:
    for parameter, value in operation.inputs.items():
        for var in value if isinstance(value, tuple | list) else (value,):
            if hasattr(var, "op"):
                yield parameter, var


def _check_names(keep: Collection[str], found: Sequence[Weight]) -> None:
    unknown = sorted(set(keep) - {name for weight in found for name in weight.names})
    if unknown:
        raise InputError(
            "there are no weights of these names to leave as they are",
            expected="a layer, layer:weight, or an operator: "
            + ", ".join(
                dict.fromkeys([*(w.operator for w in found), *(f"{w.layer}:{w.parameter}" for w in found[:8])])
            ),
            found=", ".join(unknown),
        )


def _shrinks(weight: Weight, scheme: Scheme) -> bool:
    value = weight.constant.outputs[0].val
    assert isinstance(value, np.ndarray)
    # MIL, conv_transpose: [inputs, outputs / groups, ...], where conv has the outputs first
    channels = int(value.shape[1 if weight.operator == "conv_transpose" else 0])
    # a table's indices decide its size, not its entries; behind pruning what the second step makes
    step = scheme.steps[-1] if scheme.steps[-1].kind != "linear" or scheme.steps[0].kind == "prune" else scheme.steps[0]
    return step.bytes_at_least(value.size, value.itemsize, channels) < value.nbytes


def _apply(program: Program, step: SchemeStep, allowed: Collection[tuple[str, str]], *, joint: bool) -> None:
    from coremltools.converters.mil.mil.passes.graph_pass import PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.optimize.coreml import OptimizationConfig

    name = {"palettize": "palettize_weights", "linear": "linear_quantize_weights", "prune": "prune_weights"}[step.kind]
    # a pass of its own: those in the registry are shared by the whole process
    compression = type(PASS_REGISTRY[f"compression::{name}"])()
    compression.set_options([PassOption("config", OptimizationConfig(global_config=_config(step)))])
    if joint:
        compression.set_options([PassOption("joint_compression", True)])
    compression.op_selector = lambda constant: _place(constant) in allowed
    try:
        with quiet():
            compression.apply(program)
    except CoreproofError:
        raise
    except Exception as error:  # coremltools' compression, on weights that anybody may have made
        raise ConversionError(
            f"coremltools cannot compress the weights ({step.kind})",
            found=said(error) or None,
            fix="leave those weights as they are: --keep-size LAYER",
        ) from error


def _place(constant: Operation) -> tuple[str, str] | None:
    """Which layer's which parameter a constant is, also where other constant operations unpack it."""
    for var in constant.outputs:
        for reader in var.child_ops:
            if reader.op_type.startswith("constexpr_"):
                return _place(reader)
            for parameter, read in _inputs(reader):
                if read is var:
                    return reader.outputs[0].name, parameter
    return None


def _config(step: SchemeStep) -> object:
    from coremltools.optimize import coreml

    if step.kind == "palettize":
        return coreml.OpPalettizerConfig(
            # weight_threshold, here and below: coremltools leaves weights of so many elements and fewer
            mode="uniform" if step.uniform else "kmeans",
            nbits=step.bits,
            granularity="per_grouped_channel" if step.group else "per_tensor",
            **({"group_size": step.group} if step.group else {}),
            **({"cluster_dim": step.vector} if step.vector else {}),
            enable_per_channel_scale=step.scale,
            weight_threshold=FEWEST - 1,
        )
    if step.kind == "linear":
        return coreml.OpLinearQuantizerConfig(
            mode="linear" if step.asymmetric else "linear_symmetric",
            dtype=f"{'uint' if step.asymmetric else 'int'}{step.bits}",
            granularity="per_block" if step.block else "per_tensor" if step.tensor else "per_channel",
            **({"block_size": step.block} if step.block else {}),
            weight_threshold=FEWEST - 1,
        )
    if step.of:
        return coreml.OpMagnitudePrunerConfig(n_m_ratio=(step.least, step.of), weight_threshold=FEWEST - 1)
    return coreml.OpMagnitudePrunerConfig(target_sparsity=step.share, weight_threshold=FEWEST - 1)
