"""PyTorch models: modules, archives, torchvision's by name. PyTorch itself is imported only here and by its engine."""
