"""Comparisons of dissimilarity matrices, and how sure they are."""
