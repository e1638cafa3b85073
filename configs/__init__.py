"""Declarations (YAML) and the one loader for them. Lowest package: imports nothing else of scorebench."""
