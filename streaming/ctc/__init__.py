"""From log-probabilities to words: greedy decoding, beam search with a language model, and calibration."""
