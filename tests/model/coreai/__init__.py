"""Core AI models: reading them."""
