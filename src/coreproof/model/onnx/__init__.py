"""ONNX files: read, checked, written."""
