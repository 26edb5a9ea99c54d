"""The loaded models: leases, health, capacity, and the check of a new one."""
