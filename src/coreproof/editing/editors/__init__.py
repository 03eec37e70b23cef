"""The editors, one a format: each changes the model in its stored form."""
