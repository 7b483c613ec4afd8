"""The stimuli: one file, one source."""
