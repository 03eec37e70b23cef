"""From one format into another: one translator a folder."""
