"""The operations of the dialect `coreai`, a family a file."""
