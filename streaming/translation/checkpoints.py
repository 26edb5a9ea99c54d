"""Checkpoints of translators in Hugging Face's layout: text to text (Marian and others), and speech to text."""

from __future__ import annotations

import logging
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import transformers
from safetensors import torch as safetensors_torch
from torch import Tensor

from ..errors import ModelError, first_line
from ..model.pickled import safe_weights
from ..model.source import SAFE, Source, find_source
from .generation import place

TEXT: Final = ("marian", "m2m_100", "mbart", "nllb-moe")
SPEECH: Final = "speech-encoder-decoder"
_CODE: Final = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}")  # es_XX of mBART, spa_Latn of NLLB
_M2M: Final = re.compile(r"__([a-z]{2,3})__")
_MARIAN: Final = re.compile(r">>([A-Za-z_]+)<<")

_Config: Any = transformers.AutoConfig
_Tokenizer: Any = transformers.AutoTokenizer
_Generation: Any = transformers.GenerationConfig

log = logging.getLogger("xlsr_live.translation")


def find_checkpoint(name: str) -> tuple[Source, Any]:
    """Where the checkpoint is, and its configuration. Raises `ModelError`."""
    source = find_source(name, base=True)
    config = _loaded(source, lambda: _Config.from_pretrained(source.path, **source.options, trust_remote_code=False))
    if config.model_type not in (*TEXT, SPEECH):
        known = ", ".join((*TEXT, SPEECH))
        raise ModelError(f"{name} is of the kind {config.model_type}, which does not translate; known: {known}")
    return source, config


def load_tokenizer(source: Source) -> Any:
    """Raises `ModelError`."""
    return _loaded(source, lambda: _Tokenizer.from_pretrained(source.path, **source.options, trust_remote_code=False))


def load_network(source: Source, kind: Any, config: Any, device: str) -> Any:
    """The network with all of its weights, from safetensors. Raises `ModelError`."""
    transformers.utils.logging.disable_progress_bar()

    def load(path: str, options: dict[str, Any]) -> Any:
        return kind.from_pretrained(
            path, **options, config=config, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )

    def load_safely() -> Any:
        if (weights := safe_weights(source)) is None:
            return load(source.path, source.options)
        with tempfile.TemporaryDirectory() as folder:  # the safetensors copy with the configurations that belong to it
            _gather(source, config, weights, Path(folder))
            return load(folder, {})

    network, report = _loaded(source, load_safely)
    if missing := sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key):
        raise ModelError(f"{source.name} lacks weights ({', '.join(missing[:3])}, ...): it cannot translate")
    return place(network, device)


def _gather(source: Source, config: Any, weights: str | dict[str, Tensor], folder: Path) -> None:
    config.save_pretrained(folder)
    with suppress(OSError):  # older checkpoints have none: then it comes from the configuration
        _Generation.from_pretrained(source.path, **source.options).save_pretrained(folder)
    copy = folder / SAFE[0]
    if isinstance(weights, str):
        copy.symlink_to(Path(weights) / SAFE[0])
    else:
        cast(Any, safetensors_torch).save_file(weights, copy, metadata={"format": "pt"})


def language_tokens(tokenizer: Any) -> dict[str, int]:
    """Tokens that name a target language, by its code; empty if the checkpoint has only one."""
    found: dict[str, int] = {}
    for token in map(str, tokenizer.all_special_tokens):
        if match := _M2M.fullmatch(token):
            found[match[1]] = tokenizer.convert_tokens_to_ids(token)
        elif _CODE.fullmatch(token):
            found[token] = tokenizer.convert_tokens_to_ids(token)
    return found


def marian_targets(tokenizer: Any) -> dict[str, str]:
    """What a Marian model with several targets wants before the text, by language: ">>es<<"."""
    tokens = [str(each) for each in getattr(tokenizer, "supported_language_codes", ())]
    return {match[1]: token for token in tokens if (match := _MARIAN.fullmatch(token))}


def _loaded(source: Source, load: Any) -> Any:
    try:
        return load()
    except ModelError:
        raise
    except ImportError as error:
        hint = "pip install 'xlsr-live[translate]'"
        raise ModelError(f"{source.name} needs another package: {first_line(error)}; {hint}") from error
    except Exception as error:
        log.debug("loading %s", source.name, exc_info=error)
        raise ModelError(f"{source.name} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
