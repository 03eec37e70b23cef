"""Conversion and latency, measured beside the peers in one run."""
