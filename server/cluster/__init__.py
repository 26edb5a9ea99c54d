"""Several servers behind one address, with Ray Serve: each replica is a whole server in its own process."""
