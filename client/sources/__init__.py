"""Where audio comes from: recordings, pipes, microphones, the packaged clips."""
