"""Live captions to files, OBS and YouTube."""
