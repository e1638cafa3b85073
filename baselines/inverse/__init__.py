"""Methods of the inverse family."""
