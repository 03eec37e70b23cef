"""PyTorch -> ONNX, by PyTorch's own exporter."""
