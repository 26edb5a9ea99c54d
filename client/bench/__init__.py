"""How good and how fast a checkpoint is on somebody's own audio, on their own machine (docs/benchmarks.md)."""
