"""Authentication: tokens, tickets, origins, and the limits of each client."""
