"""Deepgram's protocols: live at the websocket `/v1/listen`, files at `POST /v1/listen`."""
