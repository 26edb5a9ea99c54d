"""How events become text, JSON, subtitles, a live display or a summary."""
