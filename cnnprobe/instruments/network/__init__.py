"""A network taken apart: layers, units, the calls of a pass, and their activations."""
