"""What is answered: one file per method, in a folder per family."""
