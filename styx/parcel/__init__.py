"""Directories to bundles and back: what who sends and who receives have in common."""
