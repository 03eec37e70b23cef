"""Files: written whole or not at all, named within bounds, and read without believing them."""
