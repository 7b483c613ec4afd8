"""The preparation: a network with its weights and the images it is shown, and what both are."""
