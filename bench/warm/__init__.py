"""Warm evaluations, each engine beside its provider's own."""
