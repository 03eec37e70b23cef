"""The mode of a caller's module: it computes in evaluation mode while it is run, and is as it was given in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch

_LISTED = 4


class Lent:
    """A caller's module, whose modes are put back as soon as nothing runs it any more."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._running = 0
        self._before: list[tuple[torch.nn.Module, bool]] = []

    @contextmanager
    def evaluation(self, module: torch.nn.Module) -> Iterator[None]:
        """``module``, which is or holds the caller's, in evaluation mode; several may run it at once, and the last puts back."""
        with self._lock:
            if self._running == 0:
                self._before = [(m, m.training) for m in module.modules()]
                module.eval()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    for part, training in self._before:
                        part.training = training
                    self._before = []


_LENT: WeakKeyDictionary[torch.nn.Module, Lent] = WeakKeyDictionary()


def lent(module: torch.nn.Module) -> Lent | None:
    """The one keeper of the modes of ``module``; None where it has nothing to keep, or cannot."""
    if not any(m.training for m in module.modules()) or own_train(module):
        return None
    return _LENT.setdefault(module, Lent())


def own_train(module: torch.nn.Module) -> str:
    """The parts with a ``train`` of their own, for a note; "" if there are none.

    It may do more than note the mode (merge weights into those that an export has taken), and is not called over and over.
    """
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


def _acts_otherwise(module: torch.nn.Module) -> bool:
    """Whether a part's own ``forward`` asks for the mode, which it is in; a dropout of 0 asks for nothing."""
    # a TorchScript module's class has none that could be read
    code = getattr(getattr(type(module), "forward", None), "__code__", None)
    if not module.training or code is None or "training" not in code.co_names:
        return False
    if type(module).__name__.startswith("Transformer") and type(module).__module__.startswith("torch.nn."):
        return False  # it asks whether a faster way may be taken; its dropouts are parts of their own
    shares = [share for key in ("p", "dropout") if isinstance(share := getattr(module, key, None), int | float)]
    return not shares or any(shares)
