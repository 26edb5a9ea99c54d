"""Loading a checkpoint: the packaged one, a directory, or a name on the Hugging Face hub.

XLS-R checkpoints of one language load without transformers (`plain`); all others with it (`pretrained`).
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import Any, get_args

import torch

from ..config import Dtype, ModelOptions, SessionConfig
from ..errors import EngineError, ModelError
from ..progress import Progress, Report, unreported
from .assemble import CPU_BATCH, GPU_BATCH, assemble, bake_weight_norm
from .device import find_device, set_up, used_memory
from .download import download
from .encoder import XlsrEncoder
from .int8 import supported
from .plain import load_plain
from .preparing import Limits
from .runners import GraphRunner
from .source import Source, find_source

_GPU_UTTERANCES = 4_096  # most concurrent utterances; memory allows fewer of large models
_GPU_GRAPHS = 8 << 30  # bytes
_SMALL = 50e6  # parameters
_SHAPES = 64  # in oneDNN's cache

log = logging.getLogger("xlsr_live.model")


def load(options: ModelOptions, source: Source | None = None, *, report: Report = unreported) -> XlsrEncoder:
    """Load a checkpoint from `source`, by default from where `find_source` finds it. Raises `ModelError`.

    Calls `report` at each stage, and while a download goes on.
    """
    source = source or find_source(options.model, options.revision)
    threads = options.threads
    where = find_device(options.device)
    kind = _dtype(options.dtype, where)
    folder = download(source, report)
    report(Progress("loading", source.name))
    loaded = load_plain(source, folder, kind) if folder and options.language is None else None
    if loaded is None:
        from .pretrained import load_pretrained

        loaded = load_pretrained(source, options.language, kind)
    model: Any = loaded.model
    if where.type == "cpu":
        # oneDNN caches its work for 1,024 shapes. Every utterance has another length, so that takes hundreds of MiB and
        # saves no time. It reads this variable at its first use.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_SHAPES))
    if threads is None and where.type == "cpu" and model.num_parameters() < _SMALL:
        threads = 1  # more threads would wait for each other longer than they work
    if threads is not None:
        torch.set_num_threads(threads)
    set_up(where)
    bake_weight_norm(model)
    model = model.to(device=where, dtype=kind)
    languages, vocabulary = None, loaded.vocabulary
    if loaded.many:
        from .multilingual import make_languages

        largest = options.max_batch or (GPU_BATCH if where.type == "cuda" else CPU_BATCH)
        languages = make_languages(loaded.many, model, largest, options)
        vocabulary = languages.vocabulary(languages.default or languages.known[0])
    assert vocabulary is not None
    runner = GraphRunner(where) if where.type == "cuda" else None
    encoder = assemble(
        model,
        vocabulary,
        name=source.name,
        normalized=loaded.normalized,
        epsilon=loaded.epsilon,
        int8=options.dtype == "int8",
        language=languages.default if languages else loaded.language,
        languages=languages,
        max_batch=options.max_batch,
        runner=runner,
    )
    if runner is not None and encoder.cached:
        report(Progress("warming up", source.name))
        _prepare(encoder, runner, where)
    return encoder


def _prepare(encoder: XlsrEncoder, runner: GraphRunner, device: torch.device) -> None:
    log.info("preparing %s on %s for live steps", encoder.info.name, device)
    limits = Limits(memory=partial(used_memory, device), most_bytes=_GPU_GRAPHS)
    try:
        encoder.prepare(SessionConfig(), runner, utterances=_GPU_UTTERANCES, limits=limits)
    except EngineError as error:
        raise ModelError(f"{encoder.info.name} cannot be prepared on {device}: {error}") from error


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The model's number format; for "int8" the one of everything except the products of its layers."""
    if dtype not in get_args(Dtype):
        raise ModelError(f"{dtype!r} is not a number format; use {', '.join(get_args(Dtype))}")
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if dtype == "int8":
        if device.type != "cpu" or not supported():
            raise ModelError("int8 needs the device cpu and a processor with AVX-512 VNNI; use bfloat16 or float32")
        fast = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
        return torch.bfloat16 if fast else torch.float32
    return getattr(torch, dtype)
