"""Weights as anyone may have written them: read as data, matched to the tensors of a network."""
