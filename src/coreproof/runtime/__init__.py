"""A session per engine: one way to run a model of any format."""
