"""Core AI -> ONNX: a handler an operation, as for ML Programs."""
