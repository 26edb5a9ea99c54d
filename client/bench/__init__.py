"""Benchmarks of a checkpoint on the user's own audio and machine (docs/benchmarks.md)."""
