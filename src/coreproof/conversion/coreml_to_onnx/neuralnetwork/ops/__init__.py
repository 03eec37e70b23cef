"""The operator families, one file each; ``operators.LAYERS`` imports them when it is asked."""
