"""The digits model, and checkpoints with random weights in the published layout of the hub.

The sizes are those of XLS-R (arXiv 2111.09296, table 1) as published in the checkpoints' `config.json`; the small ones
have the same parts and far fewer of each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

XLSR: dict[str, Any] = {
    "conv_dim": (512,) * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}
XLSR_300M = XLSR | {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
XLSR_1B = XLSR | {
    "hidden_size": 1280,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
}
XLSR_2B = XLSR | {
    "hidden_size": 1920,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "intermediate_size": 7680,
}
SMALL = XLSR | {
    "conv_dim": (16,) * 7, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
SMALL_GROUP_NORM = SMALL | {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
SMALL_MMS = SMALL | {"adapter_attn_dim": 8}

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
LETTERS = (*SPECIAL, "|", *"ABCDEFGH")
SUB_WORDS = (*SPECIAL, "|", "TH", "E", "ING", "S", "A", "ER")
NO_DELIMITER = (*SPECIAL, *"你好吗我们")


def config(size: Mapping[str, Any], vocabulary: int) -> Wav2Vec2Config:
    return Wav2Vec2Config(
        **{
            **size,
            "vocab_size": vocabulary,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "mask_time_prob": 0,
        }
    )


def publish(
    directory: Path,
    size: Mapping[str, Any] = SMALL,
    tokens: tuple[str, ...] = LETTERS,
    *,
    lower: bool = False,
    normalize: bool = True,
    seed: int = 0,
) -> Path:
    """Write a whole checkpoint: config, weights (safetensors), feature extractor and tokenizer."""
    _model(size, len(tokens), seed).save_pretrained(directory)
    Wav2Vec2FeatureExtractor(
        do_normalize=normalize, return_attention_mask=size["feat_extract_norm"] == "layer"
    ).save_pretrained(directory)
    _save_tokenizer(directory, {token: index for index, token in enumerate(tokens)}, do_lower_case=lower)
    return directory


def publish_multilingual(directory: Path, languages: Mapping[str, tuple[str, ...]], *, target: str | None) -> Path:
    """Like MMS: one file with an adapter and a head for each language, and a vocabulary for each."""
    publish(directory, SMALL_MMS, next(iter(languages.values())))
    vocabularies = {name: {token: index for index, token in enumerate(tokens)} for name, tokens in languages.items()}
    _save_tokenizer(directory, vocabularies, target_lang=target)
    for seed, (name, tokens) in enumerate(languages.items(), start=10):
        adapters = _model(SMALL_MMS, len(tokens), seed)._get_adapters()
        adapter = {key: value.detach().contiguous() for key, value in adapters.items()}
        save_file(adapter, directory / f"adapter.{name}.safetensors", metadata={"format": "pt"})
    return directory


_Reference: Any = cache(Wav2Vec2ForCTC.from_pretrained)


@torch.inference_mode()
def forward(checkpoint: str, samples: np.ndarray) -> np.ndarray:
    """Rows of transformers' own forward of a checkpoint, (frames, vocabulary)."""
    return _Reference(checkpoint)(torch.from_numpy(samples)[None]).logits[0].log_softmax(-1).numpy()


def _model(size: Mapping[str, Any], vocabulary: int, seed: int) -> Wav2Vec2ForCTC:
    torch.manual_seed(seed)
    model = Wav2Vec2ForCTC(config(size, vocabulary))
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.2)  # so that several tokens are likely
        model.lm_head.bias[1 : len(SPECIAL)] = -50  # and no token that a trained head never emits
    return model


def _save_tokenizer(directory: Path, vocabulary: Mapping[str, Any], **options: Any) -> None:
    (directory / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    settings = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "word_delimiter_token": "|",
        **options,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def tokenizer(directory: Path, **options: Any) -> Wav2Vec2CTCTokenizer:
    return Wav2Vec2CTCTokenizer.from_pretrained(directory, **options)
