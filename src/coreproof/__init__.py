"""coreproof: carries a model from PyTorch or ONNX to Core ML, and proves that it is still the same model."""
