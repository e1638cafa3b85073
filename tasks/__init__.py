"""What is asked: one file per family, keyed observations, the requests handed to methods."""
