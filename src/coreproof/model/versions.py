"""The versions that a reader needs to repeat a run."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("coreproof", "torch", "torchvision", "onnx", "onnxruntime", "coremltools", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Python, the system, and the packages that models are read, converted and run with, as far as they are installed."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
