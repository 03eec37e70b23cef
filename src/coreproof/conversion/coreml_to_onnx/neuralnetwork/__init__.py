"""NeuralNetwork layers, one file a family."""
