"""Difference: what distinguishes two versions of a model."""
