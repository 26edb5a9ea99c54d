"""The websocket server."""
