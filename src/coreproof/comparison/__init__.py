"""Any number of models over any number of photos."""
