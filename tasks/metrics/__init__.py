"""The metrics. Each value carries the identity of the protocol that produced it."""
