"""Captions: cues from words, line breaks, SubRip and WebVTT."""
