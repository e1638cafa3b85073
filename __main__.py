"""``python -m scorebench``: the command line."""

from .harness.cli.main import main

main()
