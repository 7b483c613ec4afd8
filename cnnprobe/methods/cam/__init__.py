"""cam: class activation maps."""
