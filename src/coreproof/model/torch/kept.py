"""What a call leaves in a PyTorch module: buffers and attributes, put back after calls that nobody asked for, and compared."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from coreproof.model.torch.script_view import is_scripted

if TYPE_CHECKING:
    import torch

_CONTAINERS = (list, dict, set, deque)
_COPIED = 1 << 22
"""Tensors and arrays of at most so many numbers are copied, to put back what is written into them."""

_VERSION = attrgetter("_version")
"""How often a tensor was written to: PyTorch counts it."""


@contextlib.contextmanager
def keeping_buffers(module: torch.nn.Module) -> Iterator[None]:
    """Puts back what the buffers of a module held before, where what runs within changes them."""
    held = {name: (buffer, buffer.detach().clone()) for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        _put_back(module, held)


@contextlib.contextmanager
def keeping_module(module: torch.nn.Module) -> Iterator[None]:
    """The same, and what its parts keep in attributes: numbers, tensors, lists and dictionaries of those; and their hooks.

    A model of transformers hangs hooks on its parts as it is first called, and notes in an attribute that they hang. Without
    that attribute the next call would hang them a second time, and each hidden state would come twice.

    What it keeps elsewhere (a closure, a class, an object of its own) is out of reach.
    """
    held = [(part, type(part), dict(_own(part))) for part in module.modules()]
    stored = {id(t) for t in (*module.parameters(), *module.buffers())}
    inner = [_restoring(value, stored) for _, _, names in held for value in names.values()]
    hooks = [(hung, copy(hung)) for part, _, _ in held for hung in _hooks(part)]
    try:
        with keeping_buffers(module):
            yield
    finally:
        for put_back in inner:
            put_back()
        for hung, before in hooks:
            if hung.keys() != before.keys():
                hung.clear()
                hung.update(before)
        for part, kind, names in held:
            # a part that was filled by its first call (torch.nn.LazyLinear) is another one from then on
            if type(part) is kind:
                for name in _own(part).keys() - names.keys():
                    del vars(part)[name]
                vars(part).update(names)


def changed_by_call(module: torch.nn.Module, call: Callable[[], None]) -> list[str]:
    """The buffers that ``call`` writes to, or replaces, whatever it writes; the module is as it was afterwards."""
    held = {name: (buffer, _VERSION(buffer), buffer.detach().clone()) for name, buffer in module.named_buffers()}
    if not held:
        return []
    with keeping_module(module):
        call()
        now = dict(module.named_buffers())
        return [
            name
            for name, (buffer, version, before) in held.items()
            # what is written by way of ``buffer.data`` is not counted
            if now.get(name) is not buffer or _VERSION(buffer) != version or not _equal(buffer, before)
        ]


def attributes_held(module: torch.nn.Module) -> dict[str, object]:
    """The numbers, words and lengths of lists that the parts of a module hold in attributes, by dotted name."""
    return {
        f"{path}.{name}".lstrip("."): len(value) if isinstance(value, _CONTAINERS) else value
        for path, part in module.named_modules()
        for name, value in _own(part).items()
        if isinstance(value, (bool, int, float, str, *_CONTAINERS))
    }


def _own(part: torch.nn.Module) -> Mapping[str, object]:
    """A part's attributes, without those that each module of PyTorch has."""
    if is_scripted(part):
        return {}
    return {name: value for name, value in vars(part).items() if name not in _every_modules()}


def _hooks(part: torch.nn.Module) -> list[dict[object, object]]:
    """The tables of what is called before and behind a part's forward."""
    if is_scripted(part):
        return []
    tables = (
        vars(part)[name] for name in _every_modules() & vars(part).keys() if "forward" in name and "hooks" in name
    )
    return [table for table in tables if isinstance(table, dict)]


def _every_modules() -> frozenset[str]:
    import torch

    return frozenset(vars(torch.nn.Module()))


def _restoring(value: object, stored: Collection[int], *, deep: bool = True) -> Callable[[], None]:
    """What puts back the numbers of an attribute; of a list or dictionary its items, and what those hold."""
    import torch

    if isinstance(value, torch.Tensor) and id(value) not in stored and value.numel() <= _COPIED:
        return partial(_copy_back, value, value.detach().clone())
    if isinstance(value, np.ndarray) and value.size <= _COPIED:
        return partial(np.copyto, value, value.copy())
    if not deep or not isinstance(value, _CONTAINERS):
        return lambda: None
    items = copy(value)
    inner = [_restoring(v, stored, deep=False) for v in (value.values() if isinstance(value, dict) else value)]

    def put_back() -> None:
        for each in inner:
            each()
        value.clear()
        value.extend(items) if isinstance(value, list | deque) else value.update(items)

    return put_back


def _copy_back(value: torch.Tensor, before: torch.Tensor) -> None:
    import torch

    if value.shape == before.shape and not _equal(value, before):
        with torch.no_grad():
            value.copy_(before)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    import torch

    return a.shape == b.shape and bool(torch.equal(a, b))


def _put_back(module: torch.nn.Module, held: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Gives each buffer the tensor that it was, with what that ``held``; of those that were replaced as well."""
    now = dict(module.named_buffers())
    for name, (buffer, before) in held.items():
        # a forward may put a new tensor in the place of a buffer: the old one goes back
        if name in now and now[name] is not buffer:
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, buffer)
        _copy_back(buffer, before)
