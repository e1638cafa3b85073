"""Methods of the classification family."""
