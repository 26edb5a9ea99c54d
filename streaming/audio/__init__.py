"""Audio in, spans of speech out: formats, files, detectors, the gate and the ring."""
