"""The machine: files, signals, terminal, memory, number formats, and where a result comes from."""
