"""Brains in space and time: volumes, searchlights, time courses."""
