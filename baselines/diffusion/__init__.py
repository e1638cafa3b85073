"""Schedules, priors and solver parts that diffusion methods share."""
