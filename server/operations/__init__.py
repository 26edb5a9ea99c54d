"""What operators use: health, metrics, model changes, process management, and the web page's files."""
