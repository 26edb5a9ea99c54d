"""Sockets and connections below the dialects: ports, TLS, connection limits, queues of outgoing messages."""
