"""Reference matrices out of files, runs and labels, and whose row is whose."""
