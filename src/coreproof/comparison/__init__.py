"""Many models over many photos: the line-up, the plan, the store, the workers, the statistics."""
