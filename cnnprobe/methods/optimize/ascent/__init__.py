"""The ascent: rows of images that climb an objective."""
