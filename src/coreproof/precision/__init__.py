"""What float16 does to a model, which operators must stay wide, and programs of mixed precision."""
