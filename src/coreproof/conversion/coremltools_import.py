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
    own PyTorch front end imports coremltools itself first.
    """
    if "coremltools" in sys.modules:
        return sys.modules["coremltools"]
    hidden = [name for name in ("torch", "tensorflow", "sklearn", "xgboost", "executorch") if name not in sys.modules]
    logging.disable(logging.WARNING)
    try:
        for name in hidden:
            # None makes an import fail at once, as that of a package that is not installed
            sys.modules[name] = None  # type: ignore[assignment]
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            module = importlib.import_module("coremltools")
            importlib.import_module("coremltools.converters.mil")
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        logging.disable(logging.NOTSET)
    return module
