"""Benchmarks that anyone can run, against the peers and the limit. See docs/benchmarks.md."""
