"""rsa: dissimilarities of layers beside those of brains, behaviour and other networks."""
