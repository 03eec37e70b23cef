"""Core ML files: packages and specifications, read, checked, written."""
