"""The bodies: surgery on the stored form of each format."""
