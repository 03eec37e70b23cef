"""Walking a stored graph: one module a format, the same functions in each (nested, nodes, reads, writes, rename, name)."""
