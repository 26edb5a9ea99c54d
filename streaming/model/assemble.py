"""Putting an encoder together from a model that is on its device."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from ..audio.normalize import EPSILON
from ..config import LOOKAHEAD_MS, SessionConfig
from ..ctc.vocabulary import Vocabulary
from ..errors import ConfigError, ModelError
from ..frames import STRIDE
from .cache import GPU_LEFT_ROUNDING, LEFT_ROUNDING, CacheManager
from .device import cache_budget
from .encoder import XlsrEncoder
from .full_pass import PassEncoder
from .info import ModelInfo
from .int8 import quantize
from .languages import Languages
from .layers import XlsrLayers, flop_per_frame
from .packed import PackedStepEncoder
from .packed_pass import PackedPassEncoder
from .readback import BEST
from .runners import EagerRunner, GraphRunner, Runner
from .step import StepEncoder

GPU_BATCH = 64
CPU_BATCH = 4  # live steps of a large model
_LARGE = 2e8  # parameters
_GPU_PASS_FLOP = 1e13  # of a batch of full passes: some tens of milliseconds, while live steps wait
_CPU_MEMORY = 2 << 30  # bytes, for caches


def assemble(
    model: Any,
    vocabulary: Vocabulary,
    *,
    name: str,
    normalized: bool,
    epsilon: float = EPSILON,
    language: str | None = None,
    languages: Languages | None = None,
    max_batch: int | None = None,
    int8: bool = False,
    runner: Runner | None = None,
    packed: bool = False,
) -> XlsrEncoder:
    """Build the encoder, with the layers' products in 8-bit integers if `int8`, and with packed attention if `packed`.

    The device decides the default `runner`. The model has its weight norm computed already (`bake_weight_norm`).
    """
    device, config = model.device, model.config
    on_gpu = device.type == "cuda"
    parameters = sum(p.numel() for p in model.parameters())
    cached = passes = None
    # Frames of a CNN with group norm depend on the whole input, so no cache can hold them.
    if config.feat_extract_norm == "layer" and config.do_stable_layer_norm:
        network = XlsrLayers(model, languages)
        if int8:
            network.quantize()
        runner = runner or (GraphRunner(device) if on_gpu else EagerRunner(device))
        cached, passes = _with_caches(network, runner, device, packed=packed)
    elif int8:
        quantize(model.wav2vec2.encoder.layers)
    info = ModelInfo(
        name=name,
        parameters=parameters,
        device=str(device),
        dtype="int8" if int8 else str(model.dtype).removeprefix("torch."),
        vocabulary=len(vocabulary),
        language=language,
        modes=("cached", "window", "offline") if cached else ("window", "offline"),
        lookahead_ms=live_lookahead_ms(config),
    )
    return XlsrEncoder(
        model,
        vocabulary,
        info,
        normalized=normalized,
        epsilon=epsilon,
        max_batch=max_batch or (GPU_BATCH if on_gpu else CPU_BATCH if cached and parameters >= _LARGE else 1),
        most_samples=_GPU_PASS_FLOP / flop_per_frame(config) * STRIDE if on_gpu else math.inf if max_batch else 0.0,
        cached=cached,
        passes=passes,
        languages=languages,
        pipelined=cached is not None and runner is not None and runner.overlaps,
    )


def live_lookahead_ms(config: Any) -> int:
    """The lookahead of live sessions: what the checkpoint names in its `config.json`, or 480. Raises `ModelError`."""
    lookahead_ms = getattr(config, "live_lookahead_ms", None)
    if lookahead_ms is None:
        return LOOKAHEAD_MS
    try:
        return SessionConfig(lookahead_ms=lookahead_ms).lookahead
    except ConfigError as error:
        raise ModelError(f"live_lookahead_ms in config.json: {error}") from None


def _with_caches(
    network: XlsrLayers, runner: Runner, device: torch.device, *, packed: bool
) -> tuple[StepEncoder, PassEncoder]:
    """Steps and passes over the same slots."""
    on_gpu = device.type == "cuda"
    caches = CacheManager(
        partial(network.pool, paged=packed),
        most_bytes=cache_budget(device) if on_gpu else _CPU_MEMORY,
        rounding=GPU_LEFT_ROUNDING if on_gpu else LEFT_ROUNDING,
    )
    steps = PackedStepEncoder if packed else StepEncoder
    passes = PackedPassEncoder if packed and network.languages is None else PassEncoder
    best = BEST if on_gpu else None
    return steps(network, caches, runner, best=best), passes(network, caches, runner, best=best)


def full_passes(model: Any, head: tuple[Tensor, Tensor], *, int8: bool) -> PassEncoder:
    """Full passes alone of a model that is on its device, to the rows of `head` (weight and bias); without graphs."""
    network = XlsrLayers(model, head=head)
    if int8:
        network.quantize()
    return PassEncoder(network, CacheManager(network.pool, most_bytes=0), EagerRunner(model.device))


def bake_weight_norm(model: Any) -> None:
    """Weight norm of the positional convolution matters only in training; computed once it gives the same weight.

    Call it in float32: norms of rounded weights are less exact.
    """
    conv = model.wav2vec2.encoder.pos_conv_embed.conv
    if parametrize.is_parametrized(conv, "weight"):
        parametrize.remove_parametrizations(conv, "weight", leave_parametrized=True)
