"""Identification models with random weights in the published layout (facebook/mms-lid-126), and heads alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

from tests.support.checkpoints import SMALL

LABELS = ("ara", "cmn", "eng", "spa", "fra", "deu", "por")


def lid_model(labels: Sequence[str] = LABELS, size: Mapping[str, Any] = SMALL) -> Wav2Vec2ForSequenceClassification:
    torch.manual_seed(3)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
    model = Wav2Vec2ForSequenceClassification(
        Wav2Vec2Config(**size, classifier_proj_size=24, mask_time_prob=0, **names)
    )
    with torch.no_grad():
        model.classifier.weight.normal_(std=2)  # so that the classes differ
    return model.eval()


def publish_lid(directory: Path, model: Wav2Vec2ForSequenceClassification | None = None) -> Path:
    model = model or lid_model()
    model.save_pretrained(directory)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(directory)
    return directory


def publish_head(directory: Path, model: Wav2Vec2ForSequenceClassification) -> Path:
    """Its config, and of its weights those after the encoder."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(directory)
    head = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("wav2vec2.")}
    save_file(head, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def certain_of(label: str, logit: float) -> Wav2Vec2ForSequenceClassification:
    """A model that gives this logit to a class, 9 to French, and 0 to the others, whatever the audio."""
    model = lid_model()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        model.classifier.bias[LABELS.index("fra")] = 9
        model.classifier.bias[LABELS.index(label)] = logit
    return model
