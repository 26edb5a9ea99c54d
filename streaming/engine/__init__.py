"""The worker that owns the model: its request queue, batches, caches and counters."""
