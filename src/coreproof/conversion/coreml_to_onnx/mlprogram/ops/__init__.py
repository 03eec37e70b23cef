"""The operator families, one file each; ``operators.MIL`` imports them when it is asked."""
