"""The whole chain of one model, and the proof that is kept of it."""
