"""Packages that an extra of coreproof brings, imported where they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from coreproof.errors import MissingDependencyError


def import_optional(module: str, called: str, extra: str) -> ModuleType:
    """The module, or MissingDependencyError with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingDependencyError(f"{called} is not installed", fix=f"pip install 'coreproof[{extra}]'") from None
