"""The websocket client of a server."""
