"""What a model file is: features, graph, weights."""
