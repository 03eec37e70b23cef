"""ONNX -> Core ML: ML Programs and NeuralNetworks."""
