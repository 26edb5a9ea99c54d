"""The Wyoming protocol of Home Assistant: speech to text over TCP, with neither tokens nor encryption."""
