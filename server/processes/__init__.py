"""One engine process and several front processes: the link between them, and what the fronts share."""
