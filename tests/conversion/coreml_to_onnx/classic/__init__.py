"""Tests of the Core ML models that are no networks."""
