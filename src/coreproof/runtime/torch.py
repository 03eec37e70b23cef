"""The PyTorch engine: the module itself for its outputs, its traced program for inner values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ml_dtypes import bfloat16

from coreproof.errors import InputError, RunError
from coreproof.model.graph import select
from coreproof.model.torch.kept import keeping_buffers
from coreproof.model.torch.model import TorchModel, array_of, described, import_torch, name_outputs
from coreproof.model.torch.user_code import user_code
from coreproof.runtime.session import Closing, Session, State, Values, read_inputs

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node


class TorchSession(Session):
    """Outputs come from calling the module as a user would; taps from the program that torch.export traced.

    PyTorch has one number of threads for the whole process: ``threads`` holds until the session is closed.
    """

    engine = "PyTorch"
    concurrent = True
    model: TorchModel

    def __init__(self, model: TorchModel, *, threads: int | None = None) -> None:
        self.model = model
        self.signature = model.signature
        self._threads_before: int | None = None
        if threads is not None:
            torch = import_torch()
            self._threads_before = torch.get_num_threads()
            torch.set_num_threads(threads)

    def close(self) -> None:
        if self._threads_before is not None:
            import_torch().set_num_threads(self._threads_before)
            self._threads_before = None

    @cached_property
    def tappable(self) -> frozenset[str]:
        if not self.model.has_program:
            return frozenset()
        return frozenset(n.name for n in self.model.exported().graph.nodes if n.op == "call_function")

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        self._refuse_state(state)
        tensors = self._tensors(inputs)
        with self._running(tensors):
            outputs = self._outputs(tensors)
            tapped = next(self._walk(tensors, [taps])) if taps else {}
            return _arrays({**outputs, **tapped})

    def _outputs(self, tensors: tuple[torch.Tensor, ...]) -> dict[str, object]:
        module, others = self.model.module, self.model.other_weights
        if not others:
            return self.model.named(name_outputs(module(*tensors)))
        called = import_torch().func.functional_call(module, dict(others), tensors, tie_weights=False)
        return self.model.named(name_outputs(called))

    def walk(self, inputs: Mapping[str, object], groups: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
        tensors = self._tensors(inputs)
        # without taps the traced program is not run at all
        under_way = self._walk(tensors, groups) if any(groups) else iter([{} for _ in groups])
        for at in range(len(groups)):
            with self._running(tensors):
                outputs = self._outputs(tensors) if at == len(groups) - 1 else {}
                found = [_arrays({**outputs, **next(under_way)})]
            # handed out of the list, so that the values are the reader's alone and are freed with it
            yield found.pop()

    def _tensors(self, inputs: Mapping[str, object]) -> tuple[torch.Tensor, ...]:
        arrays = read_inputs(self.signature, inputs, self.model.name)
        return tuple(_tensor(np.array(arrays[name])) for name in self.model.input_names)

    @contextmanager
    def _running(self, tensors: tuple[object, ...]) -> Iterator[None]:
        said, given = "PyTorch failed while running the model", described(tensors)
        kept = keeping_buffers(self.model.module) if self.model.frozen_state else nullcontext()
        guarded = user_code(said, where=self.model.name, error=RunError, given=given)
        with guarded, self.model.evaluation(), kept, import_torch().inference_mode():
            yield

    def _walk(self, tensors: tuple[object, ...], groups: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
        """Interprets the traced program node by node; what a group asks for leaves as soon as all of it is there."""
        torch = import_torch()
        program = self.model.exported()
        interpreter = torch.fx.Interpreter(program.graph_module)
        interpreter.args_iter = iter(_flat_inputs(program, tensors, self.model.other_weights))
        # a value that several groups ask for stays until the last of them
        last = {name: at for at, group in enumerate(groups) for name in group}
        nodes = iter(program.graph_module.graph.nodes)
        kept: dict[str, object] = {}
        for at, group in enumerate(groups):
            missing = set(group).difference(kept)
            while missing and (node := next(nodes, None)) is not None:
                result = interpreter.run_node(node)
                interpreter.env[node] = result
                # freed as soon as nobody reads it: so a pass over a large network stays small
                for unread in interpreter.user_to_last_uses.get(node, ()):
                    del interpreter.env[unread]
                if node.name in last:
                    kept[node.name] = result[0] if isinstance(result, tuple | list) else result
                    missing.discard(node.name)
            found = [{name: kept.pop(name) if last[name] == at else kept[name] for name in group if name in kept}]
            yield found.pop()


def _arrays(values: Mapping[str, object]) -> Values:
    """What of ``values`` is numbers; complex ones as pairs along a last axis, which is what conversion makes of them.

    A program computes with lengths that depend on its data too (``split`` by counted sizes): they come as single numbers.
    """
    torch = import_torch()
    known: dict[str, np.ndarray] = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            known[name] = array_of(torch.view_as_real(value.resolve_conj()) if value.is_complex() else value)
        elif isinstance(value, bool | int | float):
            known[name] = array_of(torch.tensor(value, dtype=torch.float32 if isinstance(value, float) else None))
    return known


def _tensor(array: np.ndarray, *, pairs: bool = False) -> torch.Tensor:
    """Between PyTorch and NumPy bfloat16 goes as its bits: each knows the other's kinds, and that is none of NumPy's own.

    ``pairs``: complex numbers, as ``_arrays`` gives them.
    """
    torch = import_torch()
    if pairs:
        return torch.view_as_complex(torch.from_numpy(array))
    if array.dtype == bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


class TorchPart(Closing):
    """A stretch of a PyTorch model's traced program, from inner values to inner values, by the program's own names.

    ``inputs`` are those of the given names that the stretch needs. A value that is both given and asked for is computed as
    well, from others that are given. Raises InputError for names that the program does not have.
    """

    def __init__(self, of: TorchSession, given: Sequence[str], asked: Sequence[str]) -> None:
        if not of.model.has_program:
            raise InputError(
                "a module that decides by its data, or is TorchScript, has no program to take a stretch of",
                where=of.model.name,
            )
        self._model = of.model
        self._program = of.model.exported()
        nodes = list(self._program.graph.nodes)
        places = {node.name: (place,) for place, node in enumerate(nodes)}
        users = [s.arg.name for s in self._program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
        self._features = dict(zip(of.model.input_names, users, strict=False))
        ends = [v for v in self._program.graph_signature.user_outputs if isinstance(v, str)]
        self._asked = dict(zip(asked, asked, strict=True)) | {
            name: end for name, end in zip(of.model.example_outputs, ends, strict=False) if name in asked
        }
        unknown = [name for name, inner in self._asked.items() if inner not in places]
        if unknown:
            raise InputError(f"the program has no value {', '.join(map(repr, unknown))}", where=of.model.name)
        # of a node with several results the first goes by its name, while its readers take one of all
        several = {node.name for node in nodes if isinstance(node.meta.get("val"), tuple | list)}
        fed = {inner: name for name in given if (inner := self._features.get(name, name)) not in several}
        reads = [[read.name for read in node.all_input_nodes] for node in nodes]
        kept = select(self._asked.values(), places, reads, fed)
        self._given = {fed[name]: name for place in kept for name in reads[place] if name in fed}
        self._needed = {nodes[place].name for place in kept} | set(self._given.values())
        self._complex = {n.name for n in nodes if getattr(n.meta.get("val"), "is_complex", bool)()}
        self._lengths = {n.name for n in nodes if not isinstance(n.meta.get("val"), import_torch().Tensor)}
        self.inputs = tuple(self._given)

    def run(self, inputs: Mapping[str, object]) -> Values:
        """The asked values as arrays. Raises RunError."""
        torch = import_torch()
        given = {
            own: np.asarray(inputs[name]).item()  # a number, as its readers ask for
            if own in self._lengths and np.asarray(inputs[name]).size == 1
            else _tensor(np.ascontiguousarray(inputs[name]), pairs=own in self._complex)
            for name, own in self._given.items()
        }
        asked, kept, needed = set(self._asked.values()), dict[str, object](), self._needed

        class Stretch(torch.fx.Interpreter):  # type: ignore[misc,name-defined]
            def run_node(self, node: Node) -> object:
                # each placeholder takes the next of what is fed, whether it is needed or not
                if node.op == "output" or (node.op != "placeholder" and node.name not in needed):
                    return None
                if node.name in given and node.name not in asked:
                    return given[node.name]
                result = super().run_node(node)
                if node.name in asked:
                    kept[node.name] = result[0] if isinstance(result, tuple | list) else result
                # what follows reads what was given, while the node's own result is kept
                return given.get(node.name, result)

        tensors = tuple(
            _tensor(np.ascontiguousarray(inputs[name])) if name in inputs else example
            for name, example in zip(self._model.input_names, self._model.example_inputs, strict=True)
        )
        try:
            with torch.inference_mode():
                Stretch(self._program.graph_module).run(
                    *_flat_inputs(self._program, tensors, self._model.other_weights)
                )
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise RunError(
                "PyTorch failed while running a part of the model", where=self._model.name, found=str(error)
            ) from None
        return _arrays({name: kept[own] for name, own in self._asked.items()})


def _flat_inputs(
    program: ExportedProgram, tensors: tuple[object, ...], others: Mapping[str, torch.Tensor]
) -> list[object]:
    """Placeholders in order: parameters, buffers and constants from the program, or others in their place; then the user's."""
    signature = program.graph_signature
    users = iter(tensors)
    flat = []
    for spec in signature.input_specs:
        if spec.kind.name == "USER_INPUT":
            flat.append(next(users))
        elif spec.target in others:
            flat.append(others[spec.target])
        elif spec.target in program.state_dict:
            flat.append(program.state_dict[spec.target])
        else:
            flat.append(program.constants[spec.target])
    return flat
