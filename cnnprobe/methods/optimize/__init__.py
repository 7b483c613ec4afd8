"""optimize: preferred images of units, by ascent."""
