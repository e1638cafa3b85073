"""Methods of the restoration family."""
