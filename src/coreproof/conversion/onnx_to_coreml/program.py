"""Builds a MIL program from an ONNX graph: walks the nodes once, folding what is known and lowering the rest."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TypeGuard

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.checked_integers import checked
from coreproof.conversion.onnx_to_coreml.class_outputs import class_names
from coreproof.conversion.onnx_to_coreml.constants import NetworkBuilder, SharedConstants
from coreproof.conversion.onnx_to_coreml.float16.half_range import HalfRange, half_range
from coreproof.conversion.onnx_to_coreml.float16.limits import raised
from coreproof.conversion.onnx_to_coreml.fold import fold, is_foldable
from coreproof.conversion.onnx_to_coreml.int_range import check_constants, check_fits
from coreproof.conversion.onnx_to_coreml.known_values import KnownValues
from coreproof.conversion.onnx_to_coreml.lengths import Lengths, dimension_names
from coreproof.conversion.onnx_to_coreml.lowering import Context, FloatType, mil_array
from coreproof.conversion.onnx_to_coreml.magnitudes import Magnitudes
from coreproof.conversion.onnx_to_coreml.mil import Items, Operand, Program, Var
from coreproof.conversion.onnx_to_coreml.names import Names, separate
from coreproof.conversion.onnx_to_coreml.node_form import check_form, failed, named_attributes
from coreproof.conversion.onnx_to_coreml.ops.dtypes import float_name
from coreproof.conversion.onnx_to_coreml.packed_nodes import kept_packed
from coreproof.conversion.onnx_to_coreml.ranks import limit_rank
from coreproof.conversion.onnx_to_coreml.streamed_weights import WeightStream
from coreproof.conversion.operators import ONNX
from coreproof.conversion.registry import Handler
from coreproof.errors import ConversionError, CoreproofError, UnsupportedOperatorsError
from coreproof.model.numbers import FLOAT16_MAX


@dataclass(frozen=True)
class InputPlan:
    """How one model input enters the program: shape with None for free dimensions, and per-channel factor and offset."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    factor: np.ndarray | None = None
    offset: np.ndarray | None = None
    is_number: bool = False
    """Whether the source takes a single number, of rank 0, which is fed as an array of one."""


@dataclass(frozen=True)
class OutputPlan:
    """An output of the program: the ONNX value, the identifier it has in Core ML, its dtype there."""

    value: str
    name: str
    dtype: str


@dataclass
class Built:
    """A finished program, and which ONNX value each of its values equals."""

    program: Program
    inputs: list[InputPlan]
    outputs: list[OutputPlan]
    provenance: dict[str, str]
    notes: list[str]
    names: Names


def unsupported(graph: ir.Graph, opsets: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every (operator, node) that no handler exists for and that is no constant."""
    missing = []
    for node in graph.all_nodes():
        opset = opsets.get(node.domain, opsets.get("", 1))
        if ONNX.find(node.op_type, opset, node.domain) is None and node.op_type not in ("Constant", "Shape"):
            name = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
            missing.append((name, node.name or (node.outputs[0].name or "")))
    return missing


class ProgramBuilder:
    """Lowers one graph. Kept as a class because a walk shares names, values, notes and the compute dtype."""

    def __init__(
        self,
        model: ir.Model,
        *,
        source: str,
        coremltools: ModuleType,
        target: int,
        dtype: FloatType,
        is_network: bool,
        keep_fp32: Collection[str] = (),
        half_outputs: Collection[str] = (),
        weights: WeightStream | None = None,
    ) -> None:
        from coremltools.converters.mil import Builder
        from coremltools.converters.mil.mil import types

        self.graph = model.graph
        self.opsets = dict(model.opset_imports)
        self.source = source
        self.types = types
        self.half = half_range(model.graph) if dtype == np.float16 else HalfRange()
        self.half_outputs = half_outputs  # which are float16 whatever the program computes in: they become states
        self.keep_fp32 = frozenset(keep_fp32) | self.half.wide
        self.names = Names()
        self.provenance: dict[str, str] = {}
        self._stored = KnownValues[Operand]()
        self.values: MutableMapping[str, Operand] = self._stored
        # Books by id() and by identity: MIL values compare by name, and their names change while the program is built.
        # All of them live until the program is finished, so that no id is given out twice.
        self._left: list[Var] = []  # outputs handed out so far: one value cannot be two outputs
        self._magnitudes = Magnitudes()
        self._lengths = Lengths()
        self._unrounded: dict[int, Var] = {}  # an input as float16 took it -> as it is fed, for what is kept in float32
        self._shown: set[int] = set()  # float32 values that hold a mask's minimum, for an output
        self._named: set[int] = set()  # named after an ONNX value: `separate` renames all others, not these
        builder = Builder
        if weights is not None:
            builder = weights.builder(builder)
        self.context = Context(
            (NetworkBuilder if is_network else SharedConstants)(builder, target),
            target,
            dtype,
            self.opsets.get("", 1),
            is_network,
            nested=self._nested,
        )
        self._depth = (
            0  # of nested graphs; a value of theirs may be made several times, so that it has no name of its own
        )
        self.mil_target = getattr(coremltools.target, f"iOS{target}")

    def build(self, inputs: Sequence[InputPlan], outputs: Sequence[str]) -> Built:
        """The whole program; raises UnsupportedOperatorsError and ConversionError, each for all nodes at once."""
        from coremltools.converters.mil.mil import Function, Program

        missing = unsupported(self.graph, self.opsets)
        placeholders = {self.names.identifier_for(p.name): self._placeholder(p) for p in inputs}
        program = Program()
        problems: list[CoreproofError] = []
        with Function(placeholders, opset_version=self.mil_target) as function:
            for plan in inputs:
                self.values[plan.name] = self._enter(plan, function.inputs[self.names.identifier_for(plan.name)])
            for name, value in self.graph.initializers.items():
                if value.const_value is not None and name not in self.values:
                    self._stored.store(name, value.const_value)
            for node in self.graph:
                self._lower(node, missing, problems)
            self._report(missing, problems)
            plans = [self._leave(name) for name in outputs]
            function.set_outputs([p[1] for p in plans])
        program.add_function("main", function)
        removed = limit_rank(program, self.source, self._named)
        separate(function, self.names, self._named)
        del removed  # whose ids are no others' until here
        for (leaving, _), output in zip(plans, function.outputs, strict=True):
            output.name = output.op.name = leaving.name  # a rewrite at the very end makes a new output
        return Built(program, list(inputs), [p[0] for p in plans], self.provenance, self.context.notes, self.names)

    def _report(self, missing: list[tuple[str, str]], problems: list[CoreproofError]) -> None:
        if missing:
            lacking = UnsupportedOperatorsError(self.source, missing, "Core ML")
            lacking.problems = tuple(problems)
            raise lacking
        if len(problems) == 1:
            raise problems[0]
        if problems:
            several = ConversionError(
                f"{len(problems)} nodes cannot be expressed in Core ML in this form",
                where=self.source,
                found="; ".join(f"{p.where}: {p.found or p.problem}" for p in problems),
            )
            several.problems = tuple(problems)
            raise several

    # inputs

    def _placeholder(self, plan: InputPlan) -> Var:
        from coremltools.converters.mil.mil import types

        names = next((dimension_names(v) for v in self.graph.inputs if v.name == plan.name), None) or []
        if len(names) != len(plan.shape):
            names = [None] * len(plan.shape)
        shape = [
            self._lengths.of_input(name) if length is None else length
            for name, length in zip(names, plan.shape, strict=True)
        ]
        dtype = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32}[plan.dtype]
        return self.context.mb.placeholder(shape=shape, dtype=dtype)

    def _enter(self, plan: InputPlan, var: Var) -> Var:
        """The input in the compute dtype, normalised where the model takes pictures."""
        mb, onnx_dtype = self.context.mb, self.graph_dtype(plan.name)
        if plan.is_number:
            var = mb.squeeze(x=var, axes=[0])
        if onnx_dtype == ir.DataType.BOOL:
            return mb.cast(x=var, dtype="bool")
        if not self.types.is_float(var.dtype):
            return var
        if plan.name in self.half.masks.inputs and var.dtype == self.types.fp32:
            entered = self._as_compute(self._within_float16(var))
        else:
            entered = self._as_compute(var)
        if entered is not var and plan.factor is None and plan.offset is None:
            self._unrounded[id(entered)] = var
        if plan.factor is not None:
            entered = mb.mul(x=entered, y=self.context.floats(plan.factor))
        if plan.offset is not None:
            entered = mb.add(x=entered, y=self.context.floats(plan.offset))
        if entered is not var:
            self._name([entered], [f"{plan.name}_entered"], are_values=False)
        return entered

    def graph_dtype(self, name: str) -> object:
        """The ONNX dtype that an input or output of the graph declares; None for any other value."""
        for value in (*self.graph.inputs, *self.graph.outputs):
            if value.name == name:
                return value.dtype
        return None

    def _within_float16(self, var: Var) -> Var:
        """A value of float32 that holds a mask's minimum: that must not become minus infinity, as a row of it has no softmax.

        Infinity itself stays: models ask for it (x == -inf), and a row of it has no softmax in the source either.
        """
        mb = self.context.mb
        held = mb.clip(x=var, alpha=np.float32(-FLOAT16_MAX), beta=np.float32(FLOAT16_MAX))
        return mb.select(cond=mb.equal(x=mb.abs(x=var), y=np.float32(np.inf)), a=var, b=held)

    def _as_compute(self, var: Var) -> Var:
        wanted = self.types.fp16 if self.context.dtype == np.float16 else self.types.fp32
        if var.dtype == wanted:
            return var
        if wanted == self.types.fp16 and id(var) in self._shown:
            var = self._within_float16(var)
        return self.context.mb.cast(x=var, dtype=float_name(self.context))

    # nodes

    def _lower(self, node: ir.Node, missing: list[tuple[str, str]], problems: list[CoreproofError]) -> None:
        if any(name not in self.values for name in _reads(node)):
            return  # a producer could not be lowered; it is reported itself
        raw = [None if v is None else self.values[v.name or ""] for v in node.inputs]
        opset = self.opsets.get(node.domain, self.context.opset)
        try:
            results: Sequence[Operand] | None
            results = kept_packed(node, raw, self.context.target)
            if results is None and is_foldable(node, raw):
                results = fold(node, raw, opset, self.opsets)
            if results is None:
                handler = ONNX.find(node.op_type, opset, node.domain)
                if handler is None:
                    return
                results = self._handle(handler, node, raw)
        except ConversionError as error:
            problems.append(error)
            return
        except CoreproofError:
            raise
        except Exception as error:  # what the node holds is foreign: operands, attributes and shapes may be anything
            problems.append(failed(node, raw, error))
            return
        for value, result in zip(node.outputs, results, strict=False):
            if value.name:
                if not isinstance(result, np.ndarray | Items):
                    self._lengths.settle(result, value)
                self.values[value.name] = result

    def _handle(self, handler: Handler, node: ir.Node, raw: list[Operand | None]) -> Sequence[Operand]:
        """Calls the handler; a node that is to stay in float32 is computed in it, and hands float32 to others of its kind."""
        context, dtype = self.context, self.context.dtype
        wide = dtype == np.float16 and any(v.name in self.keep_fp32 for v in node.outputs)
        context.node, context.raw = node, raw
        if any(isinstance(o, Items) for o in raw) and not ONNX.traits(node.op_type).get("sequences", False):
            raise context.refuse("a sequence of tensors", "a tensor")
        check_constants(node, raw, is_network=context.is_network)
        unsure = self._magnitudes.follow(node, raw, is_network=context.is_network)
        context.dtype = np.float32 if wide else dtype
        try:
            if self.keep_fp32:
                # what is kept in float32 reads an input as it is fed, not as float16 took it
                raw = [self._unrounded.get(id(o), o) if wide else o for o in raw]
                raw = context.raw = [self._as_compute(o) if self._is_float(o) else o for o in raw]
            if context.dtype == np.float16 and ONNX.traits(node.op_type).get("guards", False):
                raw = context.raw = [raised(o) if isinstance(o, np.ndarray) else o for o in raw]
            operands = [mil_array(o, context.dtype) if isinstance(o, np.ndarray) else o for o in raw]
            context.masked = context.dtype == np.float16 and (node.outputs[0].name or "") in self.half.masks.softmax
            attributes = named_attributes(node)
            check_form(context, handler, operands, attributes)
            made = handler(context, *operands, **attributes)
            if unsure and not isinstance(made, np.ndarray | tuple | list):
                made = checked(context, *unsure, made, operands, lambda given: handler(context, *given, **attributes))
        finally:
            context.dtype = dtype
        results = list(made) if isinstance(made, tuple | list) else [made]
        if dtype == np.float16 and (node.outputs[0].name or "") in self.half.masks.bounded:
            asked = (node.outputs[0].name or "") in self.half.masks.asked
            results[0] = self._bounded(results[0], operands if asked else ())
        outputs = [v.name or "" for v in node.outputs]
        self._shown.update(id(r) for r, name in zip(results, outputs, strict=False) if name in self.half.masks.shown)
        inherited = [o for o in operands if o is not None and not isinstance(o, np.ndarray)]
        # what is handed on keeps the name it has: an operand, or what a branch reads from outside
        fresh = [r if not any(r is o for o in inherited) and not self._is_taken(r) else None for r in results]
        if not self._depth:
            self._name(fresh, outputs, are_values=not class_names(node))
        return results

    def _is_taken(self, result: Operand) -> bool:
        """Whether it is an input, or bears the name of an ONNX value already; a sequence has none."""
        if isinstance(result, np.ndarray | Items):
            return isinstance(result, Items)
        return result.op is None or id(result) in self._named

    def _bounded(self, value: Operand, operands: Sequence[Operand | None]) -> Operand:
        """A sum of a mask's minima, held within float16 as its ONNX value is held within float32.

        What one of the ``operands`` makes infinite stays so.
        """
        if isinstance(value, np.ndarray) or value.dtype != self.types.fp16:
            return value
        mb = self.context.mb
        held = mb.clip(x=value, alpha=np.float16(-FLOAT16_MAX), beta=np.float16(FLOAT16_MAX))
        infinite: Operand
        for operand in operands:
            if self._is_float(operand):
                infinite = mb.equal(x=mb.abs(x=operand), y=np.float16(np.inf))
            elif isinstance(operand, np.ndarray) and operand.dtype.kind == "f" and np.isinf(operand).any():
                infinite = np.isinf(operand)
            else:
                continue
            held = mb.select(cond=infinite, a=value, b=held)
        return held

    def _is_float(self, operand: Operand | None) -> TypeGuard[Var]:
        return operand is not None and not isinstance(operand, np.ndarray) and bool(self.types.is_float(operand.dtype))

    def _name(self, results: Sequence[Operand | None], wanted: Sequence[str], *, are_values: bool = True) -> None:
        """Gives results these names, and notes them as those of the ONNX values that they equal where ``are_values``."""
        for index, (result, name) in enumerate(zip(results, wanted, strict=False)):
            if result is None or isinstance(result, np.ndarray) or not name:
                continue
            identifier = self.names.identifier_for(name)
            result.name = identifier
            self._named.add(id(result))
            if index == 0 and result.op is not None and len(result.op.outputs) == 1:
                result.op.name = identifier
            if are_values:
                self.provenance[identifier] = name

    def _nested(self, graph: ir.Graph, inputs: Mapping[str, Operand]) -> list[Operand]:
        """Lowers the graph that a node holds where the node stands. Raises ConversionError for all of its nodes at once."""
        outer, context = self.values, self.context
        state = (context.node, context.raw, context.masked, context.dtype)
        self.values = ChainMap({**inputs}, outer)
        self._depth += 1
        problems: list[CoreproofError] = []
        try:
            for name, value in graph.initializers.items():
                if value.const_value is not None:
                    self.values[name] = value.const_value.numpy()
            for node in graph:
                self._lower(node, [], problems)
            self._report([], problems)
            made = [self.values[v.name or ""] for v in graph.outputs]
            # a round goes on in the dtype that the one before it had, whatever its last operator is computed in
            return [self._as_compute(v) if self._is_float(v) else v for v in made]
        finally:
            self.values = outer
            self._depth -= 1
            context.node, context.raw, context.masked, context.dtype = state

    # outputs

    def _leave(self, name: str) -> tuple[OutputPlan, Var]:
        """The output under its own name, as the dtype that the feature declares."""
        if name not in self.values:
            raise ConversionError(
                f"nothing makes the output {name!r}",
                where=f"output {name!r}",
                expected="a node that gives as many outputs as it names",
                fix="`coreproof doctor` says which node names it",
            )
        value, mb = self.values[name], self.context.mb
        if isinstance(value, Items):
            raise ConversionError(
                f"the output {name!r} is a sequence of {len(value.items)} tensors",
                where=f"output {name!r}",
                expected="tensors, which is what a Core ML model gives",
                fix="end the model with SequenceAt or ConcatFromSequence, or give the tensors out one by one",
            )
        identifier = self.names.identifier_for(name)
        if isinstance(value, np.ndarray):
            check_fits(value, f"output {name!r}")
            if not value.size:
                raise ConversionError(
                    f"the output {name!r} has no elements",
                    where=f"output {name!r}",
                    expected="at least one element, which a Core ML multi-array has",
                    found=f"the shape {list(value.shape)}",
                    fix="remove the output: coreproof edit",
                )
            value = mb.identity(x=np.atleast_1d(mil_array(value, np.float32)))  # a multi-array has a rank of 1 at least
        inner = value
        if not self.context.is_network and self.context.rank(value) == 0:
            value = mb.expand_dims(x=value, axes=[0])
        if any(v.name == name and v.shape is not None and not len(v.shape) for v in self.graph.outputs):
            self.context.notes.append(
                f"output {name!r} is a single number; it is given as an array of one, the least a Core ML output can be"
            )
        onnx_dtype = self.graph_dtype(name)
        wants_half = onnx_dtype == ir.DataType.FLOAT16 and self.context.target >= 16 and not self.context.is_network
        if self.types.is_float(value.dtype):
            wants_half = (wants_half and self.context.dtype == np.float16) or name in self.half_outputs
            wanted = "fp16" if wants_half else "fp32"
            dtype = "float16" if wanted == "fp16" else "float32"
            current = "fp16" if value.dtype == self.types.fp16 else "fp32"
            if current != wanted:
                value = mb.cast(x=value, dtype=wanted)
        else:
            dtype = "int32"
            if value.dtype != self.types.int32:
                value = mb.cast(x=value, dtype="int32")
        is_input = inner.op is None
        # An output is its own value: an input, a value that bears another's name, or one that has left already is copied.
        if value is inner and (is_input or inner.name != identifier or any(value is v for v in self._left)):
            value = mb.identity(x=value)
        if value is not inner and not is_input and inner.name == identifier:
            # the name belongs to the output, which is cast: what it is cast from, which has it now, goes on under another
            renamed = self.names.fresh(f"{identifier}_{float_name(self.context)}")
            inner.name = renamed
            inner.op.name = renamed if len(inner.op.outputs) == 1 else inner.op.name
            self.provenance[renamed] = self.provenance.pop(identifier, name)
        value.name = value.op.name = identifier
        self._named.add(id(value))
        self.provenance[identifier] = name
        self._left.append(value)
        return OutputPlan(name, identifier, dtype), value


def _reads(node: ir.Node) -> set[str | None]:
    """The names of the values that a node reads: its operands, and what graphs within it take from around them."""
    read = {value.name for value in node.inputs if value is not None}
    for attribute in node.attributes.values():
        if attribute.type != ir.AttributeType.GRAPH:
            continue
        graph = attribute.as_graph()
        inner = list(graph.all_nodes())
        made = {value.name for each in inner for value in each.outputs}
        for subgraph in {each.graph for each in inner} | {graph}:
            if isinstance(subgraph, ir.Graph):
                made |= {value.name for value in subgraph.inputs} | set(subgraph.initializers)
        read |= {value.name for each in inner for value in each.inputs if value is not None} - made
        read |= {value.name for value in graph.outputs if value is not None} - made
    return read
