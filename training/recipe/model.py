"""The network of the recipe: with random weights, or those of an exported checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from ..network import Network
from .settings import FIRST_KERNEL, SCALE, Model
from .text import VOCABULARY


def build(shape: Model) -> Wav2Vec2ForCTC:
    """A fresh model with XLS-R's geometry; dropout is what fine-tuning it further would use."""
    config = Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        conv_dim=shape.conv_dim,
        conv_kernel=(FIRST_KERNEL, 3, 3, 3, 3, 2, 2),
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=shape.position_width,
        num_conv_pos_embedding_groups=16,
        hidden_dropout=shape.dropout,
        activation_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.0,
        ctc_zero_infinity=True,
        ctc_loss_reduction="mean",
    )
    return Wav2Vec2ForCTC(config)


def exported(folder: Path) -> Network:
    """The network of a checkpoint that `export` wrote, for samples that are multiplied by `SCALE` again."""
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    with torch.no_grad():  # `export` multiplied them
        model.wav2vec2.feature_extractor.conv_layers[0].conv.weight /= SCALE
    return Network(model)
