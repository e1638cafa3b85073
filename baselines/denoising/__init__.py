"""Methods of the denoising family."""
