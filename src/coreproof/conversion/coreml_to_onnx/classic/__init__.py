"""Core ML models that are no networks -> ONNX: one file a family of model kinds, named in ``convert.LOWERERS``."""
