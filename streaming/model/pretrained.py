"""Loading a checkpoint with transformers: a directory, or a name on the Hugging Face hub.

Weights and adapters come from safetensors, or through torch's restricted loader from `.bin` files; code beside a
checkpoint never runs. Every failure becomes a `ModelError` of one sentence.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from ..errors import ModelError
from ..frames import SAMPLE_RATE
from .layouts import Layout, find_layout
from .multilingual import find_languages
from .pickled import pickled_adapter, safe_weights
from .plain import Loaded
from .source import Source
from .tokens import load_tokenizer, make_vocabulary

_EXACT = {"pos_conv_embed", "projector", "classifier"}  # with weight norm; the head of an identification model
_Extractor: Any = transformers.Wav2Vec2FeatureExtractor

log = logging.getLogger("xlsr_live.model")


def load_pretrained(source: Source, language: str | None, kind: torch.dtype = torch.float32) -> Loaded:
    """A checkpoint of any layout, in the number format `kind`. Raises `ModelError`."""
    transformers.utils.logging.disable_progress_bar()
    try:
        layout = find_layout(source)
        many, language = find_languages(source, layout, language)
        extractor = _Extractor.from_pretrained(source.path, **source.options)
        tokenizer = None if many else load_tokenizer(source, language)
        model = load_model(source, layout, language, kind, many=many is not None)
        vocabulary = None
        if not many:
            blank, padding = layout.blank, layout.config.pad_token_id
            vocabulary = make_vocabulary(source, tokenizer, model.config.vocab_size, blank=blank, padding=padding)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise explained(source, language, error) from error
    if extractor.sampling_rate != SAMPLE_RATE:
        raise ModelError(
            f"{source.name} needs audio at {extractor.sampling_rate} Hz; only {SAMPLE_RATE} Hz checkpoints work"
        )
    return Loaded(model, vocabulary, bool(extractor.do_normalize), language, layout.epsilon, many)


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
