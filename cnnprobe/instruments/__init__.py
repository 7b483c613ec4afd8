"""The instruments: torch only, no configuration, no file, no figure."""
