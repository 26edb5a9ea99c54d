"""XLS-R at its published sizes with random weights: the speed of trained weights without a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.model.assemble import assemble, bake_weight_norm
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.runners import Runner
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle
from xlsr_live.streaming.session.planner import WindowPlanner

from tests.support.noise import noise as white_noise

Float32 = NDArray[np.float32]

HOP, LOOKAHEAD, LEFT = 24, 24, 200  # frames: the defaults of sessions
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
# arXiv 2111.09296, table 1, as in `config.json` of facebook/wav2vec2-xls-r-300m, -1b and -2b; the last for CPUs.
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
    """Float32 weights, equal for equal size and device."""
    torch.manual_seed(0)
    with device:
        model = _Model(_Config(**_SHARED | SIZES[size], vocab_size=vocabulary)).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.2)  # so that frames differ in their best token
    bake_weight_norm(model)
    return model.requires_grad_(False)


def encoder(
    size: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    vocabulary: int = 32,
    max_batch: int | None = None,
    runner: Runner | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
    packed: bool = False,
) -> XlsrEncoder:
    """`state`: other float32 weights, as of `weights` on another device."""
    tokens = ["", " ", *(chr(0x4E00 + index) for index in range(vocabulary - 2))]
    model = weights(size, device, vocabulary=vocabulary)
    if state is not None:
        model.load_state_dict(state)
    return assemble(
        model.to(dtype),
        Vocabulary(tuple(tokens), 0),
        name=f"XLS-R {size}, random weights",
        normalized=False,
        max_batch=max_batch,
        runner=runner,
        packed=packed,
    )


def noise(seconds: float, seed: int) -> Float32:
    return white_noise(int(16_000 * seconds), seed)


def stepped(encoder: XlsrEncoder, batch: Sequence[Float32]) -> tuple[list[Float32], list[CachedFeatures]]:
    """All rows of audio of equal lengths by live steps in one batch, and the features that they leave in the cache."""
    handles = [CacheHandle(LEFT, LOOKAHEAD) for _ in batch]
    windows = WindowPlanner(hop=HOP, lookahead=LOOKAHEAD, left_context=LEFT).plan(len(batch[0]))
    rows: list[list[Float32]] = [[] for _ in batch]
    for w in windows:
        steps = [(x[slice(*w.new_samples)], CachedStep(handle, w)) for x, handle in zip(batch, handles, strict=True)]
        for own, answer in zip(rows, encoder.encode_steps(steps), strict=True):
            own.append(answer[: w.commit - w.committed])
    return [np.concatenate(own) for own in rows], [CachedFeatures(handle, windows[-1].newest) for handle in handles]
