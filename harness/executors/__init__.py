"""Executors: ways to run units, behind one protocol."""
