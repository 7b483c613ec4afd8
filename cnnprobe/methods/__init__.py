"""The experiments: one file, one subcommand."""
