"""Core ML -> ONNX, so that Core ML models run anywhere."""
