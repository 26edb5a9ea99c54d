"""The definition of the wire: events, the messages of clients, and codes of errors."""
