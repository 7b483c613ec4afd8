"""The preparations: one file, one architecture."""
