"""Layers by name: how they are called, and what they cost."""
