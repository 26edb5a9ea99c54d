"""A checkpoint by transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from tests.support.checkpoints import tokenizer


def transformers_reference(directory: Path, samples: np.ndarray, **options: Any) -> tuple[np.ndarray, str]:
    """Log-probabilities and text of transformers."""
    model = Wav2Vec2ForCTC.from_pretrained(directory).eval()
    if "target_lang" in options:
        model.load_adapter(options["target_lang"])
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(directory)(samples, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        logits = model(inputs.input_values).logits[0]
    return logits.log_softmax(-1).numpy(), tokenizer(directory, **options).decode(logits.argmax(-1))
