"""The verbs of surgery, written once for all formats on a body's primitives; every file here registers its own."""

from coreproof.surgery.verbs import description, features, layers, precision

__all__ = ["description", "features", "layers", "precision"]
