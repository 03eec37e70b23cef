"""Judges that others wrote, run against coreproof: the ONNX backend tests, and Apple's own test suite."""
