"""ML Programs to Core AI programs, operation by operation."""
