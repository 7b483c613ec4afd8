"""Drawings of arrays: numpy in, matplotlib figures out."""
