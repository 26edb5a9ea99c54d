"""Checkpoints that load without transformers: a folder with an XLS-R network, one language and safetensors.

Whatever is unusual in a checkpoint makes `load_plain` return None, and transformers loads it (`pretrained`), or says
what is wrong with it. Both ways give the same model and vocabulary.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor

from ..audio.normalize import EPSILON
from ..ctc.vocabulary import Vocabulary
from ..errors import ModelError
from ..frames import FIELD, SAMPLE_RATE, STRIDE, geometry
from .network import NetworkConfig, PlainNetwork, bake
from .source import SAFE, Source
from .tokens import CTC, PlainTokenizer, make_vocabulary

_TOKENS: Final = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

log = logging.getLogger("xlsr_live.model")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is not on its device yet, and what its files say about it."""

    model: Any
    vocabulary: Vocabulary | None  # None: with `many`
    normalized: bool
    language: str | None = None  # whose adapter is merged into the model
    epsilon: float = EPSILON
    many: Any = None  # `multilingual.Multilingual`


class _Unusual(Exception):
    """For transformers."""


def load_plain(source: Source, folder: Path, kind: torch.dtype = torch.float32) -> Loaded | None:
    """The checkpoint in this folder, in the number format `kind`, or None if transformers must load it."""
    try:
        config = _config(folder)
        normalized = _normalized(folder)
        tokenizer = _tokenizer(folder)
        blank, padding = config.blank_token_id, config.pad_token_id
        vocabulary = make_vocabulary(source, tokenizer, config.vocab_size, blank=blank, padding=padding)
        return Loaded(_network(config, _weights(folder, kind)), vocabulary, normalized)
    except _Unusual as reason:
        log.debug("transformers loads %s: %s", source.name, reason)
    except (ModelError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        log.debug("transformers loads %s", source.name, exc_info=error)
    except (SafetensorError, msgspec.MsgspecError) as error:
        log.debug("transformers loads %s", source.name, exc_info=error)
    return None


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file."""
    if not file.is_file():
        return {}
    content: Any = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise _Unusual(f"{file.name} holds no object")
    return cast(dict[str, Any], content)


def _config(folder: Path) -> NetworkConfig:
    settings = _read(folder / "config.json")
    if settings.get("model_type") != "wav2vec2" or "Wav2Vec2ForCTC" not in (settings.get("architectures") or ()):
        raise _Unusual("another architecture")
    config = msgspec.convert(settings, NetworkConfig)
    if not (config.do_stable_layer_norm and config.feat_extract_norm == "layer"):
        raise _Unusual("group norm")
    if config.adapter_attn_dim is not None or config.add_adapter:
        raise _Unusual("adapters")
    if (config.hidden_act, config.feat_extract_activation) != ("gelu", "gelu"):
        raise _Unusual("another activation")
    if geometry(config.conv_kernel, config.conv_stride) != (STRIDE, FIELD):
        raise _Unusual("another frame rate")
    return config


def _normalized(folder: Path) -> bool:
    inside = _read(folder / "processor_config.json").get("feature_extractor")
    settings = inside or _read(folder / "preprocessor_config.json")
    if not settings or settings.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise _Unusual("no feature extractor of 16 kHz")
    return bool(settings.get("do_normalize", True))


def _tokenizer(folder: Path) -> PlainTokenizer:
    """As transformers reads a `Wav2Vec2CTCTokenizer` whose tokens are all in `vocab.json`."""
    settings = _read(folder / "tokenizer_config.json")
    if settings.get("tokenizer_class") not in (None, *CTC) or settings.get("target_lang"):
        raise _Unusual("another tokenizer")
    vocabulary = _read(folder / "vocab.json")
    if not vocabulary or not all(isinstance(index, int) for index in vocabulary.values()):
        raise _Unusual("no flat vocabulary")
    named = _read(folder / "special_tokens_map.json") | settings
    added = _read(folder / "added_tokens.json")
    added |= {_content(each): int(index) for index, each in settings.get("added_tokens_decoder", {}).items()}
    if any(vocabulary.get(token) != index for token, index in added.items()):
        raise _Unusual("tokens beside the vocabulary")
    special = {name: _content(named.get(name, default)) for name, default in _TOKENS.items()}
    if any(token is not None and token not in vocabulary for token in special.values()):
        raise _Unusual("special tokens beside the vocabulary")
    return PlainTokenizer(
        vocabulary,
        **special,
        word_delimiter_token=_content(named.get("word_delimiter_token", "|")),
        do_lower_case=bool(settings.get("do_lower_case", False)),
    )


def _content(token: Any) -> Any:
    """The text of a token, which is written as text or as an object with it."""
    return cast(dict[str, Any], token)["content"] if isinstance(token, dict) else token


def _weights(folder: Path, kind: torch.dtype) -> dict[str, Tensor]:
    single, index = (folder / name for name in SAFE)
    if single.is_file():
        files = [single]
    else:
        names = sorted(set(_read(index)["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise _Unusual("weights elsewhere")
        files = [folder / name for name in names]
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= safetensors_torch.load_file(file)
    return {name: weight.to(kind) for name, weight in bake(weights).items()}


def _network(config: NetworkConfig, weights: dict[str, Tensor]) -> PlainNetwork:
    with torch.device("meta"):
        network = PlainNetwork(config)
    needed = network.state_dict()
    if missing := needed.keys() - weights.keys():
        raise _Unusual(f"without {min(missing)}")
    network.load_state_dict({name: weights[name] for name in needed}, assign=True)
    return network.requires_grad_(False).eval()
