"""MIL operations in Core AI's, one family a file."""
