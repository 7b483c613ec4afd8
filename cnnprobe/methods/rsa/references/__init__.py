"""Reference matrices from files, runs and labels, and the matching of their rows."""
