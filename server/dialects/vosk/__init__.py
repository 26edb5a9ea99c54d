"""The protocol of alphacep's vosk-server."""
