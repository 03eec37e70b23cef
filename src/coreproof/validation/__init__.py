"""Inspection: what cannot be right in a model whatever it is for, found without running it."""
