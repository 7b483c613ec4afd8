"""Rendering: drawn images, as functions of options and their own number."""
