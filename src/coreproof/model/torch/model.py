"""PyTorch models: a module and inputs that it can be called with. PyTorch is imported only here and by its engine."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from coreproof.errors import ConversionError, CoreproofError, InputError, MissingDependencyError
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.files.outputs import PROGRAM, Kind
from coreproof.model.graph import Graph, Node, Value
from coreproof.model.optional import import_optional
from coreproof.model.torch.captured import captured
from coreproof.model.torch.gradients import without_complex_gradients
from coreproof.model.torch.kept import keeping_module
from coreproof.model.torch.nested import fields_of, flattened, is_flat, named_leaves
from coreproof.model.torch.operator_list import operators_read_once
from coreproof.model.torch.plain_data import data_recorded
from coreproof.model.torch.promoted import numbers_promoted
from coreproof.model.torch.recurrent import kept_whole, recurrent
from coreproof.model.torch.script_view import arguments_of, is_scripted, script_graph
from coreproof.model.torch.training_mode import Lent
from coreproof.model.torch.unasked import computed_unasked
from coreproof.model.torch.user_code import causes, kind_of, said_by, user_code, users_line

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch.export import ExportedProgram


class TorchModel(Model):
    """A PyTorch module in evaluation mode, with the inputs that fix its shapes.

    ``program`` is the traced program whose node names are the taps of the torch engine; the exporter sets it, so that
    taps and the exported ONNX values have the same names.

    ``frozen_state``: the module is meant as it answers with its buffers as they are, which each call that changes them puts back;
    ``frozen_branches``: it decides by its data, so that there is no program and no inner value, and is meant as it answers its
    example inputs. Both are what the user asked for where it was exported. ``scripted``: it is a TorchScript program, or decides
    by its data within one, so that there is no exported program either. ``traced_only``: tracing exports it and torch.export does
    not, so that its outputs alone can be compared. ``other_weights`` are parameters and buffers, by name,
    that the module is run with in the place of its own (``with_weights``). ``lent`` keeps the modes of a caller's module,
    which is in evaluation mode where something runs within ``evaluation``, and as it was given in between.
    """

    format = "torch"
    frozen_state = False
    frozen_branches = False
    traced_only = False
    other_weights: Mapping[str, torch.Tensor] = MappingProxyType({})
    lent: Lent | None = None

    def __init__(
        self,
        module: torch.nn.Module,
        example_inputs: tuple[torch.Tensor, ...],
        *,
        name: str,
        path: Path | None = None,
        notes: tuple[str, ...] = (),
        feeding: Feeding | None = None,
        labels: tuple[str, ...] | None = None,
        untrained: bool = False,
    ) -> None:
        super().__init__(name, path, notes)
        self.untrained = untrained
        self.module = module
        self.scripted = any(map(is_scripted, module.modules()))
        with contextlib.suppress(NotImplementedError):  # torch.export fixes the mode as it traces
            module.eval()
        # of one tensor given twice, torch.export makes one input and leaves the other unread
        twice = [any(tensor is other for other in example_inputs[:at]) for at, tensor in enumerate(example_inputs)]
        self.example_inputs = tuple(
            tensor.clone() if again and hasattr(tensor, "clone") else tensor
            for tensor, again in zip(example_inputs, twice, strict=True)
        )
        self.feeding = feeding
        self.labels = labels
        self.program: ExportedProgram | None = None
        self._held_at: dict[tuple[tuple[int, ...], ...], TorchModel] = {}

    def evaluation(self) -> contextlib.AbstractContextManager[None]:
        """The module in evaluation mode, as whatever runs or traces it needs it."""
        return contextlib.nullcontext() if self.lent is None else self.lent.evaluation(self.module)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The parameter names of ``forward``, in order, as many as there are example inputs."""
        named = self._parameters[: len(self.example_inputs)]
        return named + tuple(f"input_{i}" for i in range(len(named), len(self.example_inputs)))

    @cached_property
    def _parameters(self) -> tuple[str, ...]:
        if is_scripted(self.module):
            return tuple(arguments_of(self.module))
        return tuple(
            name
            for name, p in inspect.signature(self.module.forward).parameters.items()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        )

    @cached_property
    def example_outputs(self) -> dict[str, object]:
        """The outputs for ``example_inputs``, by name: "output", "output_0" ..., or the keys of a dictionary."""
        torch = import_torch()
        with (
            user_code(
                "the model does not run on its example inputs",
                where=self.name,
                expected="inputs that fit forward, each a tensor",
                given=described(self.example_inputs),
                fix="correct the example inputs, or the line of the model",
            ),
            torch.no_grad(),
            self.evaluation(),
            keeping_module(self.module),
        ):
            outputs = self.module(*self.example_inputs)
        return self.named(named_tensors(outputs, self.name))

    def named(self, outputs: Mapping[str, object]) -> dict[str, object]:
        """Outputs by name, of which none is an input's: a value has one name in a graph."""
        return {f"{name}_out" if name in self.input_names else name: value for name, value in outputs.items()}

    @property
    def examples(self) -> dict[str, np.ndarray]:
        """The example inputs as arrays, by name."""
        return {name: array_of(tensor) for name, tensor in zip(self.input_names, self.example_inputs, strict=True)}

    def at_lengths(self, shapes: Mapping[str, tuple[int, ...]]) -> TorchModel:
        """The module with example inputs of other shapes, cut or repeated; itself where it has these.

        Inputs that ``shapes`` does not name follow where their first length is the one that changes: the batch is one.
        Raises InputError where the module does not run on them.
        """
        lengths = {name: tuple(t.shape) for name, t in zip(self.input_names, self.example_inputs, strict=True)}
        asked = {name: shapes.get(name, length) for name, length in lengths.items()}
        if self.frozen_branches or any(len(asked[name]) != len(length) for name, length in lengths.items()):
            return self
        batches = {length[0]: asked[name][0] for name, length in lengths.items() if length and name in shapes}
        for name, length in lengths.items():
            if length and name not in shapes:
                asked[name] = (batches.get(length[0], length[0]), *length[1:])
        if asked == lengths:
            return self
        key = tuple(asked.values())
        if key not in self._held_at:
            other = copy(self)
            other.example_inputs = tuple(map(resized, self.example_inputs, key))
            other.program = None
            for name in ("example_outputs", "signature", "graph"):
                vars(other).pop(name, None)
            other.example_outputs  # noqa: B018 - runs it
            self._held_at[key] = other
        return self._held_at[key]

    @cached_property
    def signature(self) -> Signature:
        """What the example inputs are and what they gave."""

        def feature(name: str, tensor: torch.Tensor) -> Feature:
            # complex numbers go in and out as pairs along a last axis
            dtype = tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype
            shape = (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)
            return Feature(name, "tensor", str(dtype).removeprefix("torch."), shape)

        return Signature(
            inputs=tuple(feature(n, t) for n, t in zip(self.input_names, self.example_inputs, strict=True)),
            outputs=tuple(feature(n, t) for n, t in self.example_outputs.items()),
            labels=self.labels,
        )

    @property
    def has_program(self) -> bool:
        """Whether it can be had as an exported program, from which inner values are read."""
        return not (self.frozen_branches or self.scripted or self.traced_only)

    def exported(self) -> ExportedProgram:
        """The program that taps read from: decomposed as the ONNX exporter does, so that a name means one value everywhere."""
        if self.program is None:
            self.program = self._traced(decomposed=True)
        return self.program

    def _traced(self, *, decomposed: bool = False) -> ExportedProgram:
        if self.scripted:
            raise ConversionError("a TorchScript program has no exported program", where=self.name, fix=_NO_PROGRAM)
        try:
            with (
                quiet(),
                self.evaluation(),
                keeping_module(self.module),
                kept_whole(),
                computed_unasked(),
                numbers_promoted(),
                data_recorded(),
                operators_read_once(),
                without_complex_gradients(self.module),
            ):
                program = captured(self.module, self.example_inputs)
                return _decomposed(program) if decomposed else program
        except Exception as error:  # the exporter runs the user's code and raises what that raises
            raise export_error(error, self.name) from error

    @cached_property
    def graph(self) -> Graph:
        """The operators of the exported program; none where Python branches on values."""
        if is_scripted(self.module):
            return script_graph(self.module, self.name, self.input_names, tuple(self.example_outputs))
        if not self.has_program:
            return Graph(self.name, (), self.input_names, tuple(self.example_outputs))
        return _read_graph(self.exported())

    def _kind(self, target: Path) -> Kind:
        return PROGRAM

    def write(self, fresh: Path, target: Path) -> None:
        """Writes a .pt2 program (torch.export)."""
        torch = import_torch()
        with quiet():
            torch.export.save(self._traced(), fresh)


_NO_PROGRAM = "convert it to ONNX, and hold the inner values of that; or give the module that it was made of"


def resized(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of that shape, cut or repeated along each axis."""
    torch = import_torch()
    for axis, length in enumerate(shape):
        if tensor.shape[axis] and tensor.shape[axis] != length:
            tensor = tensor.index_select(axis, torch.arange(length) % tensor.shape[axis])
    return tensor


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor; bfloat16 goes as its bits, for which NumPy has no kind of its own."""
    torch = import_torch()
    # the imaginary part of a conjugate is a view that is negated as it is read, which NumPy does not know
    held = tensor.detach().cpu().resolve_conj().resolve_neg()
    if held.dtype != torch.bfloat16:
        numbers: np.ndarray = held.numpy()
        return numbers
    from ml_dtypes import bfloat16

    bits: np.ndarray = held.view(torch.int16).numpy()
    return bits.view(bfloat16)


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    """``program`` in the operators that the ONNX exporter translates, under the names that it gives their values.

    PyTorch's own default decompositions take other operators apart, and count the same names ("mul_2", "view_1") for other
    values. The exporter's step has no public door; where a release moves it, the default has to do.
    """
    try:
        core = importlib.import_module("torch.onnx._internal.exporter._core")
        registration = importlib.import_module("torch.onnx._internal.exporter._registration")
        known = registration.ONNXRegistry.from_torchlib()
        for kind in recurrent():  # some of which only coreproof's own table translates
            known.register_op(kind, name_outputs)
        return core._prepare_exported_program_for_export(program, registry=known)
    except (ImportError, AttributeError, TypeError):
        return program.run_decompositions()


def name_outputs(outputs: object) -> dict[str, object]:
    """A module's outputs by name, None left out: a tensor, or what holds some, at any depth, by its keys or fields."""
    if hasattr(outputs, "items"):
        top = {str(k): v for k, v in outputs.items()}
    elif (fields := fields_of(outputs)) is not None:
        top = fields
    elif isinstance(outputs, tuple | list):
        # exporters leave out what is None; the others keep their numbers among those that are left
        kept = [o for o in outputs if o is not None]
        top = {"output": kept[0]} if len(kept) == 1 else {f"output_{i}": o for i, o in enumerate(kept)}
    else:
        top = {"output": outputs}
    return {name: leaf for key, value in top.items() for name, leaf in named_leaves(value, key)}


def named_tensors(outputs: object, where: str) -> dict[str, object]:
    """``name_outputs`` of what a module returned. Raises InputError where that is something else than tensors."""
    torch = import_torch()
    named = name_outputs(outputs)
    wrong = [f"{name} is {kind_of(value)}" for name, value in named.items() if not isinstance(value, torch.Tensor)]
    if wrong or not named:
        raise InputError(
            "the model returns something else than tensors",
            where=where,
            expected="a tensor, or tuples, lists, dictionaries and dataclasses of tensors",
            found="; ".join(wrong[:5]) or "nothing",
            fix="wrap it in a module whose forward returns the tensors alone",
        )
    return named


def described(tensors: Iterable[torch.Tensor]) -> str:
    """``float32[1, 3, 224, 224], int64[2]``."""
    return ", ".join(f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for t in tensors)


def export_error(error: BaseException, name: str) -> ConversionError:
    """What the user's line has that PyTorch's exporter cannot follow, and what to do about it."""
    line = users_line(error)
    cause = list(causes(error))[-1]
    if depends_on_data(error):
        return ConversionError(
            "the model decides by its data which way it goes: an exported program has one way",
            where=line or name,
            found=said_by(cause),
            fix="write the if with torch.where or torch.cond, and give sizes that do not hang on values; or take this part out; "
            "--freeze-branches, freeze_branches=True, keeps it as the example takes it",
        )
    return ConversionError(
        "PyTorch cannot export this model",
        where=line or name,
        found=said_by(cause),
        fix="write that line with torch operations alone, or take this part out",
    )


def depends_on_data(error: BaseException) -> bool:
    """Whether the exporter stopped because a Python value hangs on what is in a tensor: an if, a size, an index."""
    return any(
        type(each).__name__ in ("GuardOnDataDependentSymNode", "DataDependentOutputException")
        or "data-dependent" in str(each).lower()
        for each in causes(error)
    )


# sources


def load_program(path: Path, *, trust: bool = False) -> TorchModel:
    """A .pt2 program written by torch.export.save; without ``trust`` only if nothing in it has to be executed."""
    from coreproof.model.torch.archive import callable_module, damaged, read_program

    torch = import_torch()
    with contextlib.suppress(MissingDependencyError):  # its operators may be in the program
        import_torchvision()
    if trust:
        try:
            with quiet():
                program = torch.export.load(path)
                module = program.module()
        except Exception as error:  # torch.export.load raises what the file makes of it
            raise damaged(path, error) from None
    else:
        with quiet():
            program = read_program(path)
            try:
                module = callable_module(program, path)
            except CoreproofError:
                raise
            except Exception as error:  # PyTorch asserts as it puts the module together
                raise damaged(path, error) from None
    if program.example_inputs is None:
        raise InputError(
            "the program holds no example inputs", where=str(path), fix="export it again with torch.export"
        )
    arguments, keywords = program.example_inputs
    if not is_flat(arguments, keywords):
        module, arguments = flattened(module, arguments, keywords)
    return TorchModel(module, tuple(arguments), name=path.stem, path=path)


# imports that need care


def import_torch() -> ModuleType:
    """PyTorch, or a message with the line that installs it."""
    return import_optional("torch", "PyTorch", "torch")


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators do not fit the installed PyTorch.

    A torchvision wheel built for CUDA beside a CPU build of PyTorch stops at import, because the schemas of its
    compiled operators are missing. Declaring them is enough for its models, which do not call them.
    """
    torch = import_torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_optional("torchvision", "torchvision", "torch")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    # an import that failed leaves the parts that it had done, which would not be run again
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    # as torchvision declares them (torchvision/csrc/ops/nms.cpp)
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms" + schema)
    library.define("qnms" + schema)
    _declared.append(library)
    return importlib.import_module("torchvision")


_declared: list[object] = []  # a torch.library.Library takes its operators back when it is collected


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keeps the pages that torch prints while it traces and exports off the terminal; what it said is yielded."""
    said = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield said
    finally:
        logging.disable(level)


# the read view


def _read_graph(program: ExportedProgram) -> Graph:
    signature = program.graph_signature
    parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    nodes, values, inputs, outputs = [], {}, [], []
    for node in program.graph.nodes:
        meta = node.meta.get("val")
        if hasattr(meta, "shape"):
            values[node.name] = Value(
                node.name,
                str(meta.dtype).removeprefix("torch."),
                tuple(d if isinstance(d, int) else str(d) for d in meta.shape),
                constant=node.name in parameters,
            )
        # torch.export makes placeholders of weights too
        if node.op == "placeholder" and node.name not in parameters:
            inputs.append(node.name)
        elif node.op == "call_function":
            read = list(node.all_input_nodes)
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            nodes.append(
                Node(
                    name=node.name,
                    operator=_operator(node.target),
                    inputs=tuple(n.name for n in read),
                    outputs=(node.name,),
                    attributes={f"argument{i}": a for i, a in enumerate(node.args) if isinstance(a, int | float | str)},
                    parameters={
                        parameters[n.name]: (values[n.name].dtype or "?", values[n.name].shape or ())  # type: ignore[misc]
                        for n in read
                        if n.name in parameters and n.name in values
                    },
                    source=stack[-1][0] if stack else None,
                )
            )
        elif node.op == "output":
            outputs = [n.name for n in node.all_input_nodes]
    return Graph("forward", tuple(nodes), tuple(inputs), tuple(outputs), values)


def _operator(target: object) -> str:
    """``conv2d.default`` of aten.conv2d.default; ``getitem`` of Python's own function, which takes one of many outputs."""
    name = str(target)
    return str(getattr(target, "__name__", name)) if name.startswith("<") else name.removeprefix("aten.")
