"""The mode of a caller's module: it computes in evaluation mode while it is run, and is as it was given in between."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import CodeType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from coreproof.model.torch.user_code import is_users_file

if TYPE_CHECKING:
    import torch

_LISTED = 4


class Lent:
    """A caller's module, whose modes are put back as soon as nothing runs it any more."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._running = 0
        self._before: Callable[[], None] = lambda: None

    @contextmanager
    def evaluation(self, module: torch.nn.Module) -> Iterator[None]:
        """``module``, which is or holds the caller's, in evaluation mode; several may run it at once, and the last puts back."""
        with self._lock:
            if self._running == 0:
                self._before = _as_it_was(module)
                module.eval()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._before()
                    self._before = lambda: None


_LENT: WeakKeyDictionary[torch.nn.Module, Lent] = WeakKeyDictionary()


def lent(module: torch.nn.Module) -> Lent | None:
    """The one keeper of the modes of ``module``; None where it has nothing to keep, or cannot.

    It cannot where a ``train`` of the module's own does more than set modes: merges weights into those that an export has taken.
    """
    if not any(m.training for m in module.modules()):
        return None
    if module not in _LENT and own_train(module) and _eval_changes(module):
        return None
    return _LENT.setdefault(module, Lent())


def _as_it_was(module: torch.nn.Module) -> Callable[[], None]:
    """Puts back the modes of all parts, whatever a ``train`` of their own makes of a mode, and which weights are trained."""
    modes = [(part, part.training) for part in module.modules()]
    trained = [(weight, weight.requires_grad) for weight in module.parameters()]

    def put_back() -> None:
        for part, training in modes:
            part.training = training
        for weight, is_trained in trained:
            if weight.requires_grad != is_trained:
                weight.requires_grad_(is_trained)

    return put_back


def _eval_changes(module: torch.nn.Module) -> bool:
    """Whether ``eval()`` changes more of a module than its modes; one that does is left in evaluation mode."""
    put_back, before = _as_it_was(module), _held(module)
    module.eval()
    if _held(module) != before:
        return True
    put_back()
    return False


def _held(module: torch.nn.Module) -> list[object]:
    """What a module holds besides its modes: digests of its numbers, and its attributes."""
    import torch

    found: list[object] = []
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        plain = tensor.detach().cpu()
        # a tensor of another kind (sparse, quantised) has no bytes to look at
        if plain.layout == torch.strided and not plain.is_quantized:
            data = plain.contiguous().reshape(-1).view(torch.uint8).numpy()
            found.append((name, hashlib.blake2b(data).digest()))
    for name, part in module.named_modules():
        held = {key: value for key, value in vars(part).items() if key != "training" and not key.startswith("_")}
        # an object that is changed is the same object; numbers and words are compared as they are
        plain_ones = {k: v for k, v in held.items() if isinstance(v, bool | int | float | str | None)}
        found.append((name, plain_ones, {k: id(v) for k, v in held.items() if k not in plain_ones}))
    return found


def own_train(module: torch.nn.Module) -> str:
    """The parts with a ``train`` of their own, for a note; "" if there are none."""
    from torch.nn import Module

    return _listed([_said(name, m) for name, m in module.named_modules() if type(m).train is not Module.train])


def unlike_evaluation(module: torch.nn.Module) -> str:
    """The parts that are in training mode and compute otherwise in it, for a note; "" if there are none."""
    return _listed([_said(name, m) for name, m in module.named_modules() if _acts_otherwise(m)])


def _said(name: str, module: torch.nn.Module) -> str:
    return f"{name or 'the module'} ({type(module).__name__})"


def _listed(found: list[str]) -> str:
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more


def _code_of(module: torch.nn.Module) -> Iterator[object]:
    """What a call of the part runs: its forward, what else its class defines, and what is hooked before it."""
    # a TorchScript module's class has none that could be read
    yield getattr(getattr(type(module), "forward", None), "__code__", None)
    for kind in type(module).__mro__:
        if is_users_file(getattr(sys.modules.get(kind.__module__), "__file__", None) or "<"):
            named = (value for name, value in vars(kind).items() if name not in ("train", "eval"))
            yield from (getattr(value, "__code__", None) for value in named)
    for hook in (vars(module).get("_forward_pre_hooks") or {}).values():
        yield getattr(vars(type(hook)).get("__call__", hook), "__code__", None)


def _asks_for_mode(code: object) -> bool:
    return isinstance(code, CodeType) and "training" in code.co_names


def _acts_otherwise(module: torch.nn.Module) -> bool:
    """Whether a part's own code asks for the mode, which it is in; a dropout of 0 asks for nothing."""
    if not module.training or not any(_asks_for_mode(code) for code in _code_of(module)):
        return False
    if type(module).__name__.startswith("Transformer") and type(module).__module__.startswith("torch.nn."):
        return False  # it asks whether a faster way may be taken; its dropouts are parts of their own
    shares = [share for key in ("p", "dropout") if isinstance(share := getattr(module, key, None), int | float)]
    return not shares or any(shares)
