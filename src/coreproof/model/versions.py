"""The versions that a reader needs to repeat a run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("coreproof", "torch", "torchvision", "onnx", "onnxruntime", "coremltools", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Python, the system, and the packages that models are read, converted and run with, as far as they are installed."""
    system = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    return {**system, **installed(_PACKAGES)}


@cache
def installed(packages: tuple[str, ...]) -> Mapping[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
