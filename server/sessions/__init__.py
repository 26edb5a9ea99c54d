"""Sessions of clients, in any dialect: who gets one, how it is resumed, shared and ended."""
