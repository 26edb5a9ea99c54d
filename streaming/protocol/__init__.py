"""The wire: events that a session emits and messages that a client sends, as both ends encode them."""
