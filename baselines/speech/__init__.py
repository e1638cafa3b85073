"""Methods of the speech family."""
