"""Modules that take or return dictionaries, lists or caches: each tensor in them becomes an input or output with a name."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from coreproof.errors import InputError

if TYPE_CHECKING:
    import torch


class _Layer(Protocol):
    keys: object
    values: object


class _Growing(Protocol):
    """What is read of transformers' DynamicCache."""

    layers: list[_Layer]


def named_leaves(tree: object, name: str) -> list[tuple[str, object]]:
    """What a tree holds, None left out, each under the tree's name and the keys that lead to it: ``past_0_key``."""
    pytree = _trees(tree)
    leaves, _ = pytree.tree_flatten_with_path(tree)
    return [("_".join([name, *map(_key, path)]), leaf) for path, leaf in leaves if leaf is not None]


def _key(entry: object) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return re.sub(r"\W", "_", str(getattr(entry, attribute)))
    return re.sub(r"\W", "_", str(entry))


def _trees(*given: object) -> ModuleType:
    """PyTorch's own view of nested values, which has no public name; torch.export flattens what it is given by the same.

    It is told of the dataclasses among what is ``given``, which it takes for leaves otherwise.
    It sees into the growing caches of transformers too, where that is loaded. transformers would register them itself, but puts
    each together from an empty constant, over which torch.export stumbles.
    """
    pytree = importlib.import_module("torch.utils._pytree")
    for each in given:
        _tell_of_dataclasses(pytree, each)
    caches = sys.modules.get("transformers.cache_utils")
    kind = getattr(caches, "DynamicCache", None)
    if caches is not None and kind is not None and kind not in pytree.SUPPORTED_NODES:
        pytree.register_pytree_node(
            kind,
            lambda cache: ([leaf for _, leaf in _cached(cache)], len(cache.layers)),
            lambda leaves, _: _cache(caches, list(leaves)),
            flatten_with_keys_fn=lambda cache: (
                [(pytree.MappingKey(key), leaf) for key, leaf in _cached(cache)],
                len(cache.layers),
            ),
            serialized_type_name="transformers.cache_utils.DynamicCache",
        )
    return pytree


def _tell_of_dataclasses(pytree: ModuleType, value: object) -> None:
    import torch

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value) not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(type(value))
        for field in dataclasses.fields(value):
            _tell_of_dataclasses(pytree, getattr(value, field.name))
    elif isinstance(value, Mapping):
        for each in value.values():
            _tell_of_dataclasses(pytree, each)
    elif isinstance(value, tuple | list):
        for each in value:
            _tell_of_dataclasses(pytree, each)


def fields_of(value: object) -> dict[str, object] | None:
    """What a dataclass or a named tuple holds, by name; None for what is neither. torch.export knows it from then on."""
    _trees(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    names = getattr(value, "_fields", None)
    return dict(zip(names, value, strict=True)) if isinstance(value, tuple) and names is not None else None


def _cached(cache: _Growing) -> list[tuple[str, object]]:
    """``0_key``, ``0_value``, ``1_key`` ... of a cache, as exporters of such models name them."""
    unlike = sorted({type(layer).__name__ for layer in cache.layers if type(layer).__name__ != "DynamicLayer"})
    if unlike or any(layer.keys is None for layer in cache.layers):
        raise InputError(
            "this cache is more than the keys and values of its layers, or is empty",
            expected="a DynamicCache of layers that grow, filled by a first call of the model",
            found=", ".join(unlike) or "a layer without keys",
            fix="wrap the model in a module whose forward takes and returns the tensors alone",
        )
    return [
        (f"{i}_{k}", v) for i, each in enumerate(cache.layers) for k, v in (("key", each.keys), ("value", each.values))
    ]


def _cache(caches: ModuleType, leaves: list[torch.Tensor]) -> object:
    cache = caches.DynamicCache()
    for keys, values in zip(leaves[::2], leaves[1::2], strict=True):
        layer = caches.DynamicLayer()
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        # PyTorch also puts trees of other things together, as it compares their forms
        layer.dtype, layer.device = getattr(keys, "dtype", None), getattr(keys, "device", None)
        cache.layers.append(layer)
    return cache


def is_flat(arguments: Sequence[object], keywords: Mapping[str, object]) -> bool:
    """Whether a module is called with tensors of real numbers, by position alone."""
    import torch

    return not keywords and all(isinstance(each, torch.Tensor) and not each.is_complex() for each in arguments)


def held_fixed(module: torch.nn.Module, arguments: Sequence[object], keywords: Mapping[str, object]) -> str | None:
    """What of an example is no tensor, and so the same at every call: ``scale=2, mode='up'``."""
    import torch

    found = [
        f"{name}={leaf!r}"
        for top, value in _given(module, arguments, keywords)
        for name, leaf in named_leaves(value, top)
        if not isinstance(leaf, torch.Tensor)
    ]
    return ", ".join(found) or None


def flattened(
    module: torch.nn.Module, arguments: Sequence[object], keywords: Mapping[str, object]
) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """A module that takes the tensors within ``arguments`` and ``keywords`` one by one, and these tensors.

    Its ``forward`` names them after the module's own parameters and the keys that lead to them. What is no tensor (None,
    a flag, a number) is as it is in the example, at every call. Complex numbers are taken as pairs along a last axis, which is
    what they are in ONNX and Core ML.
    """
    import torch

    pytree = _trees(tuple(arguments), dict(keywords))
    leaves, tree = pytree.tree_flatten((tuple(arguments), dict(keywords)))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    pairs = {place for place in places if leaves[place].is_complex()}
    fixed = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    names = _names(module, arguments, keywords)

    class Flattened(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> object:
            filled = list(fixed)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = torch.view_as_complex(tensor) if place in pairs else tensor
            positional, named = pytree.tree_unflatten(filled, tree)
            return self.module(*positional, **named)

    # where torch.export and our own signature read the names
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    vars(Flattened)["forward"].__signature__ = inspect.Signature([own, *(own.replace(name=name) for name in names)])
    given = (leaves[place] for place in places)
    return Flattened(), tuple(torch.view_as_real(each.resolve_conj()) if each.is_complex() else each for each in given)


def _names(module: torch.nn.Module, arguments: Sequence[object], keywords: Mapping[str, object]) -> list[str]:
    """A name of its own for each tensor, in the order of the tree's leaves."""
    import torch

    found = [
        name if name.isidentifier() and not iskeyword(name) else f"input_{name}"
        for top, value in _given(module, arguments, keywords)
        for name, leaf in named_leaves(value, top)
        if isinstance(leaf, torch.Tensor)
    ]
    return [name if found.index(name) == place else f"{name}_{place}" for place, name in enumerate(found)]


def _given(
    module: torch.nn.Module, arguments: Sequence[object], keywords: Mapping[str, object]
) -> list[tuple[str, object]]:
    """The arguments, each under the name that the module's forward gives it."""
    parameters = [
        name
        for name, p in inspect.signature(module.forward).parameters.items()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    parameters += [f"input_{place}" for place in range(len(parameters), len(arguments))]
    return [(str(name), value) for name, value in (*zip(parameters, arguments, strict=False), *keywords.items())]
