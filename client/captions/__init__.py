"""Captions while they are spoken: into files, to OBS, to YouTube."""
