"""Figures of rsa."""
