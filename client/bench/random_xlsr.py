"""XLS-R at its published sizes with random weights: all that speed depends on, without a download."""

from __future__ import annotations

from typing import Any, Final

import torch
import transformers

from ...streaming.ctc.vocabulary import Vocabulary
from ...streaming.model.encoder import XlsrEncoder
from ...streaming.model.load import assemble
from ...streaming.model.runners import Runner

_SHARED: Final[dict[str, Any]] = {
    "conv_dim": (512,) * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "num_attention_heads": 16,
    "mask_time_prob": 0,
    "pad_token_id": 0,
}
# arXiv 2111.09296, table 1, as in `config.json` of facebook/wav2vec2-xls-r-300m, -1b and -2b. The last is for tests.
SIZES: Final[dict[str, dict[str, Any]]] = {
    "300m": {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096},
    "1b": {"hidden_size": 1280, "num_hidden_layers": 48, "intermediate_size": 5120},
    "2b": {"hidden_size": 1920, "num_hidden_layers": 48, "intermediate_size": 7680},
    "tiny": {
        "conv_dim": (16,) * 7, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64,
        "num_attention_heads": 2, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    },
}  # fmt: skip

_Config: Any = transformers.Wav2Vec2Config
_Model: Any = transformers.Wav2Vec2ForCTC


def weights(size: str, device: torch.device, *, vocabulary: int = 32) -> Any:
    """The same weights for the same size and device, in float32."""
    torch.manual_seed(0)
    with device:
        model = _Model(_Config(**_SHARED | SIZES[size], vocab_size=vocabulary)).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.2)  # so that frames differ in their best token
    return model.requires_grad_(False)


def encoder(
    size: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    vocabulary: int = 32,
    max_batch: int | None = None,
    programs: Runner | None = None,
) -> XlsrEncoder:
    tokens = ["", " ", *(chr(0x4E00 + index) for index in range(vocabulary - 2))]
    return assemble(
        weights(size, device, vocabulary=vocabulary).to(dtype),
        Vocabulary(tuple(tokens), 0),
        name=f"XLS-R {size}, random weights",
        normalized=False,
        max_batch=max_batch,
        programs=programs,
    )
