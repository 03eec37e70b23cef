"""ML Program operations, one file a family."""
