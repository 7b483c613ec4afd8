"""Outputs of a network: logits, probabilities or neither, and the readout that gives them."""
