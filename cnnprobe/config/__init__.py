"""Configuration: from the words of a command line to one checked tree of options."""
