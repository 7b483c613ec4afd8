"""Gradients through a network: whether they arrive, and what rectifiers do with them."""
