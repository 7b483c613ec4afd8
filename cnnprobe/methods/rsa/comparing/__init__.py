"""Comparisons of dissimilarity matrices, and their uncertainty."""
