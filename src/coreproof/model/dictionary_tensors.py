"""Dictionaries in ONNX graphs that are made of Core ML models: two tensors, for ONNX Runtime takes none of float64."""

from __future__ import annotations


def keys_of(name: str) -> str:
    """The name of the tensor of keys of a dictionary feature."""
    return f"{name}/keys"


def values_of(name: str) -> str:
    """The name of the tensor of values of a dictionary feature."""
    return f"{name}/values"
