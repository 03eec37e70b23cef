"""The verbs of surgery, written once for all formats on a body's primitives; every file here registers its own."""

from coreproof.editing.verbs import description, extracting, features, layers, precision

__all__ = ["description", "extracting", "features", "layers", "precision"]
