"""train: teach a network, and keep the moments of its learning."""
