"""The operator families, one file each; ``operators.ONNX`` imports them when it is asked."""
