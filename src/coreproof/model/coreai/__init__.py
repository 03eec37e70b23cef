"""Core AI models (.aimodel): read and run through Apple's own packages, which live in a child process."""
