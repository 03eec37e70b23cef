"""coremltools' builder, imported without the seconds and the noise that its import brings along."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from types import ModuleType


def import_coremltools() -> ModuleType:
    """coremltools, quietly.

    Its package imports torch, TensorFlow and scikit-learn when they are installed, only to offer their front ends. Those that
    are not loaded yet are hidden while it is imported: conversion here starts from ONNX. A process that needs coremltools'
    own PyTorch front end imports coremltools itself first. What it has for compressing PyTorch modules is imported when somebody
    asks for it, as it brings a third of PyTorch along.
    """
    if "coremltools" in sys.modules:
        return sys.modules["coremltools"]
    hidden = [
        name
        for name in ("torch", "tensorflow", "sklearn", "xgboost", "executorch", "transformers")
        if name not in sys.modules
    ]
    logging.disable(logging.WARNING)
    try:
        for name in hidden:
            # None makes an import fail at once, as that of a package that is not installed
            sys.modules[name] = None  # type: ignore[assignment]
        sys.modules.setdefault(_LATER, ModuleType(_LATER))
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            module = importlib.import_module("coremltools")
            importlib.import_module("coremltools.converters.mil")
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        del sys.modules[_LATER]
        logging.disable(logging.NOTSET)
    optimize = sys.modules["coremltools.optimize"]
    if vars(optimize).pop("torch", None) is not None:
        setattr(optimize, "__getattr__", _asked_for)  # noqa: B010 - a module answers so for what it does not hold
    return module


_LATER = "coremltools.optimize.torch"


def _asked_for(name: str) -> ModuleType:
    """``coremltools.optimize.torch``, as ``import coremltools`` would have left it there."""
    if name != "torch":
        raise AttributeError(f"module 'coremltools.optimize' has no attribute {name!r}")
    return importlib.import_module(_LATER)
