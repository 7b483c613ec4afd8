"""Image sets: what every dataset is made of."""
