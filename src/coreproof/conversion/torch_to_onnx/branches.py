"""Where a PyTorch module takes a Python value out of what it is fed: an if, a loop, a number that tracing keeps as it was."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from unittest.mock import patch

from coreproof.errors import ConversionError
from coreproof.model.torch.checks import PYTORCHS, checks_data, only_checks, running_caught, running_check, user_line
from coreproof.model.torch.kept import keeping_module
from coreproof.model.torch.model import TorchModel, import_torch, quiet
from coreproof.model.torch.user_code import line_of, users_place

if TYPE_CHECKING:
    from torch import Tensor

Called: TypeAlias = Callable[..., object]
Arguments: TypeAlias = Sequence[object]
Named: TypeAlias = Mapping[str, object] | None
"""An operator of PyTorch's, and what it is called with."""

_PADDED = "say how long the result is: pad_packed_sequence(..., total_length=x.shape[1])"
"""What to do where it is as long as the longest sequence, which is data."""

FREEZE = "or keep each as the example takes it: --freeze-branches, freeze_branches=True"


@dataclass
class Branches:
    """``places``: the user's lines, each with the values that it took of the example, in the order in which they ran.

    ``open_shapes``: a tensor's length hangs on values (``nonzero``, a mask as an index), so that a branch on a shape may be
    one on data. ``unsaid_length``: sequences are padded to the longest of them. ``scripted``: TorchScript within the module
    decides by its data, which a trace keeps as it is. ``checks``: lines that only check or report, on which no number hangs.
    ``ran``: the module came to its end, so that this is all.
    """

    places: dict[str, list[str]] = field(default_factory=dict)
    open_shapes: bool = False
    scripted: bool = False
    unsaid_length: bool = False
    checks: list[str] = field(default_factory=list)
    ran: bool = False
    read_at: set[tuple[str, int]] = field(default_factory=set)

    def read(self, value: object, name: str) -> None:
        """A value that is taken now, of the module of that name."""
        place = users_place() or name
        if (line := user_line()) is not None:
            self.read_at.add(line)
        if not running_check(branches_of.__name__):
            self.took(place, value)
        elif place not in self.checks:
            self.checks.append(place)

    def checked(self, name: str, *, on_data: bool = False) -> None:
        """One of PyTorch's own checks runs now; noted where it is ``on_data``, or on a number that was taken out of data."""
        line, place = user_line(), users_place() or name
        if place not in self.checks and (on_data or (line is not None and checks_data(line, self.read_at))):
            self.checks.append(place)

    def took(self, place: str, value: object) -> None:
        """One more value at a line."""
        self.places.setdefault(place, []).append(str(value)[:40])

    def __bool__(self) -> bool:
        return bool(self.places)

    @property
    def only_own(self) -> bool:
        """Whether what the exporter cannot know are numbers of the module's own, kept as tensors: nothing hangs on the inputs."""
        return self.ran and not (self.places or self.open_shapes or self.unsaid_length)

    def notes(self) -> tuple[str, ...]:
        """A sentence for each line that is frozen, for a report."""
        return tuple(
            f"frozen as the example took it ({_in_words(values)}): {place}" for place, values in self.places.items()
        )

    def left(self) -> tuple[str, ...]:
        """A sentence for each line that only checks, which no conversion does."""
        return tuple(f"only checks or reports, and is left out: {place}" for place in self.checks)

    def refusal(self, name: str) -> ConversionError:
        """The error that a model with such lines is refused with."""
        first, *others = self.places
        return ConversionError(
            "the model decides by its data which way it goes: an exported program has one way",
            where=first or name,
            expected="values that stay tensors, so that they are computed anew for each input",
            found="; ".join(note.removeprefix("frozen as ") for note in self.notes()[:8])
            + (f"; and {len(others) - 7} more" if len(others) > 7 else ""),
            fix=f"{_PADDED}; {FREEZE}"
            if self.unsaid_length and len(self.places) == 1
            else f"write the if with torch.where or torch.cond, and a value without .item(), int() or .numpy(); {FREEZE}",
        )


def _in_words(values: Sequence[str]) -> str:
    """``True``; ``True 3 times, then False``."""
    runs: list[tuple[str, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    told = [value if count == 1 else f"{value} {count} times" for value, count in runs[:4]]
    return ", then ".join(told) + (", ..." if len(runs) > 4 else "")


def branches_of(model: TorchModel, sample: Mapping[str, object] | None = None) -> Branches:
    """Each line that takes a Python value out of what follows from the inputs: the module runs once on its example inputs.

    Or on ``sample``, arrays by name.

    What follows from an input is told operator by operator; values of weights and constants are the module's own, and shapes
    are no data. An if within TorchScript is none of these: it stays an if. A module that does not run is left to whoever
    runs it next: what was found up to there is given.
    """
    torch = import_torch()
    found = Branches()
    inputs = tuple(x.clone() for x in model.example_inputs)
    if sample is not None:
        given = zip(inputs, model.input_names, strict=True)
        inputs = tuple(torch.as_tensor(sample[name]).to(x.dtype).clone() for x, name in given)
    with quiet(), torch.no_grad(), model.evaluation(), keeping_module(model.module), _watched(model, inputs, found):
        try:
            model.module(*inputs)
            found.ran = True
        except Exception:  # the user's code, whose error is said where its result is needed
            return found
    return found


_OPEN = frozenset(
    ["nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "nms"]
)
_NUMBERS = frozenset(("_local_scalar_dense", "equal", "allclose"))
"""Operators that answer with a number of Python's."""
_ARRAYS = frozenset(("numpy", "tolist", "__array__"))


_ASKING = frozenset(("cov", "corrcoef", "vander"))
"""Operators that look at numbers, and raise for some, before they compute (``computed_unasked``)."""


def _only_asks(func: Called, args: Arguments, named: Named) -> bool:
    """Whether a function of PyTorch's takes numbers out of tensors for a check of its own, and nothing else."""
    name = getattr(func, "__name__", "")
    if name == "one_hot":  # told how many classes there are, it looks whether each number is one of them
        return (args[1] if len(args) > 1 else (named or {}).get("num_classes", -1)) != -1
    return name in _ASKING


@contextmanager
def _watched(model: TorchModel, inputs: Sequence[object], found: Branches) -> Iterator[None]:
    torch = import_torch()
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC2701 - it has no public name
    from torch.utils.weak import WeakTensorKeyDictionary

    follows, packed = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()
    depth: list[tuple[Called, Arguments, Named]] = []
    for tensor in inputs:
        follows[tensor] = True

    def tensors(values: object) -> list[Tensor]:
        return [v for v in torch.utils._pytree.tree_leaves(values) if isinstance(v, torch.Tensor)]

    class Operators(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Called, types: object, args: Arguments = (), kwargs: Named = None) -> object:
            made = func(*args, **(kwargs or {}))
            read = tensors((args, kwargs))
            if any(t in follows for t in read):
                name = func.__name__.split(".")[0]
                if name in _NUMBERS:
                    if depth and not _only_asks(*depth[-1]):
                        found.read(made, model.name)
                    elif depth:
                        pass  # PyTorch's own code, whose answer does not hang on it
                    else:  # TorchScript asks, and not Python
                        found.scripted = True
                elif name.startswith(PYTORCHS):
                    found.checked(model.name, on_data=True)
                elif name == "select" and args[0] in packed and tuple(args[1:]) == (0, 0):
                    pass  # no sequence of a packed batch is empty: at its first step it has as many as it was given
                elif not (name.endswith("_like") or name.startswith("new_")):  # those take a shape, and no values
                    for tensor in tensors(made):
                        follows[tensor] = True
                    if name == "_pack_padded_sequence":
                        packed[tensors(made)[1]] = True  # how many sequences reach each step
                found.open_shapes |= name in _OPEN or (name == "index" and any(t.dtype == torch.bool for t in read[1:]))
            return made

    class Methods(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, func: Called, types: object, args: Arguments = (), kwargs: Named = None) -> object:
            depth.append((func, args, kwargs))
            try:
                made = func(*args, **(kwargs or {}))
            finally:
                depth.pop()
            name = getattr(func, "__name__", "")
            if name in _ARRAYS and args and isinstance(args[0], torch.Tensor) and args[0] in follows:
                found.read(f"{name} of {list(args[0].shape)}", model.name)
            if name == "_pad_packed_sequence" and args[0] in follows and not _says_length():
                found.took(users_place() or model.name, f"{args[-1]} steps, the longest sequence")
                found.unsaid_length = True
            return made

    def noted(check: Called) -> Called:
        def and_checked(*args: object, **kwargs: object) -> object:
            found.checked(model.name)
            return check(*args, **kwargs)

        return and_checked

    # they take numbers of Python's, of which no operator tells
    checks = {name: noted(made) for name, made in vars(torch).items() if name.startswith(PYTORCHS) and callable(made)}
    with patch.dict(vars(torch), checks), Methods(), Operators():
        yield


def _says_length() -> bool:
    """Whether ``pad_packed_sequence``, which is running, was told a length: what it hands on is a number in any case."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_name != "pad_packed_sequence":
        frame = frame.f_back
    return frame.f_locals.get("total_length") is not None


@contextmanager
def caught_within(found: list[str]) -> Iterator[None]:
    """Adds the lines at which PyTorch's exporter ends on data while it traces, and the module's own ``except`` goes on.

    What it traces then is a way that no call of the module takes.
    """
    import_torch()
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    made = GuardOnDataDependentSymNode.__init__

    def told(error: BaseException, *arguments: object, **named: object) -> None:
        made(error, *arguments, **named)
        if running_caught("_exported") and (place := users_place()) is not None:
            found.append(place)

    with patch.object(GuardOnDataDependentSymNode, "__init__", told):
        yield


@contextmanager
def traced_branches(found: Branches) -> Iterator[None]:
    """Adds what PyTorch's tracer warns of while it traces a model whose shapes are open; ``quiet`` must not be within."""
    torch = import_torch()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said if found.open_shapes else ():
        if issubclass(warning.category, torch.jit.TracerWarning) and "Converting a tensor to" in str(warning.message):
            place = line_of(warning.filename, warning.lineno)
            if place is not None and not only_checks(warning.filename, warning.lineno):
                found.took(place, "a length")


def take_program(model: TorchModel) -> None:
    """Exports a module, or notes that it can only be traced. Raises ConversionError for one that decides by its data."""
    try:
        model.exported()
    except ConversionError as error:
        found = branches_of(model)
        if found:  # as convert says it of the same module
            raise found.refusal(model.name) from error
        # what TorchScript decides within it is no decision that is lost; it has no program, and answers all the same
        model.scripted = found.scripted
        # one that decides nothing by its data is traced as well as it can be called
        model.traced_only = True
