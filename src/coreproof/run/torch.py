"""The PyTorch engine: the module itself for its outputs, its traced program for inner values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from coreproof.errors import RunError
from coreproof.model.torch import TorchModel, import_torch, name_outputs
from coreproof.run.session import Session, read_inputs


class TorchSession(Session):
    """Outputs come from calling the module as a user would; taps from the program that torch.export traced.

    PyTorch has one number of threads for the whole process: ``threads`` holds until the session is closed.
    """

    engine = "PyTorch"
    concurrent = True

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
        return frozenset(n.name for n in self.model.exported().graph.nodes if n.op == "call_function")

    def run(self, inputs: Mapping[str, Any], taps: Sequence[str] = ()) -> dict[str, Any]:
        torch = import_torch()
        arrays = read_inputs(self.signature, inputs, self.model.name)
        tensors = tuple(torch.from_numpy(arrays[name].copy()) for name in self.model.input_names)
        try:
            with torch.inference_mode():
                outputs = name_outputs(self.model.module(*tensors))
                tapped = self._tapped(tensors, taps) if taps else {}
        except (RuntimeError, TypeError, ValueError) as error:
            raise RunError("PyTorch failed while running the model", where=self.model.name, found=str(error)) from None
        return {
            name: value.detach().numpy() for name, value in {**outputs, **tapped}.items() if hasattr(value, "numpy")
        }

    def _tapped(self, tensors: tuple[Any, ...], taps: Sequence[str]) -> dict[str, Any]:
        """Interprets the traced program node by node, keeping only what was asked for."""
        torch = import_torch()
        program = self.model.exported()
        wanted = set(taps)
        kept: dict[str, Any] = {}

        class Tapping(torch.fx.Interpreter):  # type: ignore[misc,name-defined]
            def run_node(self, node: Any) -> Any:
                result = super().run_node(node)
                if node.name in wanted:
                    kept[node.name] = result[0] if isinstance(result, tuple | list) else result
                return result

        Tapping(program.graph_module).run(*_flat_inputs(program, tensors))
        return kept


def _flat_inputs(program: Any, tensors: tuple[Any, ...]) -> list[Any]:
    """Placeholders in order: parameters, buffers and constants from the program, the rest from the user's tensors."""
    signature = program.graph_signature
    users = iter(tensors)
    flat = []
    for spec in signature.input_specs:
        if spec.kind.name == "USER_INPUT":
            flat.append(next(users))
        elif spec.target in program.state_dict:
            flat.append(program.state_dict[spec.target])
        else:
            flat.append(program.constants[spec.target])
    return flat
