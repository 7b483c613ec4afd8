"""Rankings: the images a unit responds to most, and the units that rank first."""
