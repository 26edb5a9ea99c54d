"""XLS-R in torch: loading, batched cached steps and full passes, runners for CPU and GPU."""
