"""Models that are named and not at hand: addresses, repositories of the Hugging Face hub, networks of libraries by name."""
