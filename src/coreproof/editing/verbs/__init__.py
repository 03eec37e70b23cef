"""The verbs of editing, written once for all formats on an editor's primitives; every file here registers its own."""

from coreproof.editing.verbs import description, extracting, features, layers, precision

__all__ = ["description", "extracting", "features", "layers", "precision"]
