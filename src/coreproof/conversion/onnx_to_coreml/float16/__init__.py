"""What float16 does not hold: where a graph needs more, found before it is converted."""
