"""One stream without I/O: utterances, live pass, final pass, endpoints and partials."""
