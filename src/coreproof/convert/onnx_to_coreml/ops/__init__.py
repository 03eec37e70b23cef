"""The operator families, one file each; importing this package fills the registry with all of them."""

from __future__ import annotations

import importlib
import pkgutil

FAMILIES = tuple(importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
