"""Sub-models: one selection of layers and one builder a format, for extract and for reduction."""
