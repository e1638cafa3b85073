"""Methods of the generation family."""
