"""Loading a checkpoint with transformers: the packaged one, a directory, or a name on the Hugging Face hub.

Weights and adapters come from safetensors, or through torch's restricted loader from `.bin` files; code beside a
checkpoint never runs. Every failure becomes a `ModelError` of one sentence.
"""

from __future__ import annotations

import logging
import os
import re
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast, get_args

import torch
import transformers
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from ..config import Dtype, ModelOptions, SessionConfig
from ..errors import EngineError, ModelError
from ..frames import SAMPLE_RATE
from .assemble import GPU_BATCH, assemble, bake_weight_norm
from .device import find_device, set_up, used_memory
from .encoder import XlsrEncoder
from .int8 import supported
from .layouts import Layout, find_layout
from .multilingual import find_languages, make_languages
from .pickled import pickled_adapter, safe_weights
from .preparing import Limits
from .runners import GraphRunner
from .source import Source, find_source
from .tokens import load_tokenizer, make_vocabulary

_GPU_UTTERANCES = 4_096  # most concurrent utterances; memory allows fewer of large models
_GPU_GRAPHS = 8 << 30  # bytes
_SMALL = 50e6  # parameters
_EXACT = {"pos_conv_embed", "projector", "classifier"}  # with weight norm; the head of an identification model
_SHAPES = 64  # in oneDNN's cache

_Extractor: Any = transformers.Wav2Vec2FeatureExtractor

log = logging.getLogger("xlsr_live.model")


def load(options: ModelOptions, source: Source | None = None) -> XlsrEncoder:
    """Load a checkpoint from `source`, by default from where `find_source` finds it. Raises `ModelError`."""
    source = source or find_source(options.model, options.revision)
    threads = options.threads
    where = find_device(options.device)
    kind = _dtype(options.dtype, where)
    transformers.utils.logging.disable_progress_bar()
    try:
        layout = find_layout(source)
        many, language = find_languages(source, layout, options.language)
        extractor = _Extractor.from_pretrained(source.path, **source.options)
        tokenizer = None if many else load_tokenizer(source, language)
        model = load_model(source, layout, language, kind, many=many is not None)
        vocabulary = None if many else make_vocabulary(source, tokenizer, layout, model.config.vocab_size)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise explained(source, options.language, error) from error
    if extractor.sampling_rate != SAMPLE_RATE:
        raise ModelError(
            f"{source.name} needs audio at {extractor.sampling_rate} Hz; only {SAMPLE_RATE} Hz checkpoints work"
        )
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
    max_batch = options.max_batch or (GPU_BATCH if where.type == "cuda" else 1)
    languages = None
    if many:
        languages = make_languages(many, model, max_batch, options)
        vocabulary = languages.vocabulary(languages.default or languages.known[0])
    assert vocabulary is not None
    runner = GraphRunner(where) if where.type == "cuda" else None
    encoder = assemble(
        model,
        vocabulary,
        name=source.name,
        normalized=bool(extractor.do_normalize),
        epsilon=layout.epsilon,
        int8=options.dtype == "int8",
        language=languages.default if languages else language,
        languages=languages,
        max_batch=max_batch,
        runner=runner,
    )
    if runner is not None and encoder.cached:
        _prepare(encoder, runner, where)
    return encoder


def _prepare(encoder: XlsrEncoder, runner: GraphRunner, device: torch.device) -> None:
    log.info("preparing %s on %s for live steps", encoder.info.name, device)
    limits = Limits(memory=partial(used_memory, device), most_bytes=_GPU_GRAPHS)
    try:
        encoder.prepare(SessionConfig(), runner, utterances=_GPU_UTTERANCES, limits=limits)
    except EngineError as error:
        raise ModelError(f"{encoder.info.name} cannot be prepared on {device}: {error}") from error


def load_model(source: Source, layout: Layout, language: str | None, kind: torch.dtype, *, many: bool) -> Any:
    """The model in the number format `kind`, except for weights that must be combined with others in float32.

    With `many` languages their adapters and heads come later, beside the model.
    """
    weights = safe_weights(source)
    config = layout.config
    where: dict[str, Any] = {"pretrained_model_name_or_path": source.path, **source.options, "config": config}
    if weights is not None:  # beside the checkpoint, without its other files
        where = {"pretrained_model_name_or_path": weights if isinstance(weights, str) else None, "config": config}
    if isinstance(weights, dict):
        where["state_dict"] = weights
    network: Any = type("Network", (layout.network,), {"_keep_in_fp32_modules_strict": _EXACT})
    model, report = network.from_pretrained(
        **where,
        key_mapping={rf"^{re.escape(old)}\.": f"{new}." for old, new in layout.renamed.items()} or None,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="sdpa",
        dtype=kind,
        output_loading_info=True,
    )
    optional = ("masked_spec_embed", "adapter_layer", "lm_head") if many else ("masked_spec_embed",)
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in optional))
    if missing:
        raise ModelError(f"{source.name} lacks weights ({', '.join(missing[:3])}, ...): it cannot recognize anything")
    if language is not None and not many:
        load_adapter(model, source, language)
    return model.eval()


def load_adapter(model: Any, source: Source, language: str) -> None:
    """Give a model the adapter and head of a language. Adapters lie beside the checkpoint."""
    pickled = pickled_adapter(source, language)
    if pickled is None:
        model.config.name_or_path = source.path
        model.load_adapter(language, use_safetensors=True, **source.options)
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # transformers reads files only
        cast(Any, safetensors_torch).save_file(pickled, Path(folder) / f"adapter.{language}.safetensors")
        model.config.name_or_path = folder
        model.load_adapter(language, use_safetensors=True)
    model.config.name_or_path = source.path


def explained(source: Source, language: str | None, error: Exception) -> ModelError:
    """Reduce transformers' long messages to one sentence."""
    log.debug("loading %s", source.name, exc_info=error)
    first = str(error).strip().split("\n")[0]
    if source.path == source.name and ("connect" in str(error) or "offline" in str(error).lower()):
        return ModelError(
            f"{source.name} is not in the local cache and the Hugging Face hub cannot be reached. "
            "Connect once to download it, or give a local directory"
        )
    for_language = f" for language {language!r}" if language else ""
    return ModelError(f"{source.name} cannot be loaded{for_language}: {first}")


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
