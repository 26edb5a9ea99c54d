"""The checkpoint that a fine-tuning starts from: with a CTC head, with adapters for languages, or without a head.

Loading follows `streaming.model.load`: safetensors, or `pytorch_model.bin` through torch's restricted loader, and no
code beside a checkpoint runs.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
import transformers
from safetensors import SafetensorError

from ..streaming.ctc.vocabulary import Vocabulary
from ..streaming.errors import ModelError, first_line
from ..streaming.frames import FIELD, SAMPLE_RATE, STRIDE, geometry
from ..streaming.model.pickled import safe_weights
from ..streaming.model.pretrained import load_adapter
from ..streaming.model.source import Source, find_source
from ..streaming.model.tokens import load_tokenizer, make_vocabulary

# Decorators hide the types of transformers' classes.
_Config: Any = transformers.Wav2Vec2Config
_Extractor: Any = transformers.Wav2Vec2FeatureExtractor
_Model: Any = transformers.Wav2Vec2ForCTC

DELIMITER: Final = "|"
SPECIAL: Final = ("<pad>", "<s>", "</s>", "<unk>")

_FAILURES: Final = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)
_HEADLESS: Final = {"Wav2Vec2ForPreTraining", "Wav2Vec2Model", "Wav2Vec2ForSequenceClassification"}


@dataclass(frozen=True, slots=True)
class Base:
    """A checkpoint that can be trained, not yet loaded."""

    name: str
    source: Source
    config: Any
    normalized: bool  # whether its input is normalized per utterance
    tokenizer: Any  # None: there is no head, or none for the language
    vocabulary: Vocabulary | None
    language: str | None  # whose adapter is trained; None: the model has none, or it trains as a whole
    languages: Mapping[str, Mapping[str, int]]  # the vocabulary of each language with an adapter

    @property
    def known(self) -> bool:
        """Whether an adapter for the language exists, from which training continues."""
        return self.language in self.languages


def find_base(name: str, revision: str | None = None, *, adapter: str | None = None) -> Base:
    """Read what a checkpoint says about itself. `adapter` is the language to train an adapter for. Raises
    `ModelError`."""
    source = find_source(name, revision, base=True)
    with _quietly(name):
        config = _Config.from_pretrained(source.path, **source.options)
        has_head = _check(name, config, adapter)
        normalized = _normalized(source)
        tokenizer = languages = None
        if has_head:
            tokenizer, languages = _tokenizer(source, adapter)
        vocabulary = None
        if tokenizer is not None:
            size = len(languages[adapter]) if languages and adapter else config.vocab_size
            blank: int | None = getattr(config, "blank_token_id", None)
            vocabulary = make_vocabulary(source, tokenizer, size, blank=blank, padding=config.pad_token_id)
    return Base(name, source, config, normalized, tokenizer, vocabulary, adapter, languages or {})


def load_base(base: Base, tokens: Sequence[str] | None, *, seed: int = 0) -> Any:
    """The model in float32 with the head of `tokens`, by id; None keeps the base's own head.

    A new head takes the rows of tokens that the old one has; the rest is random, as are new adapters. Raises
    `ModelError`.
    """
    torch.manual_seed(seed)
    with _quietly(base.name):
        model = _load(base, tokens)
        if base.language is not None:
            if base.known:
                load_adapter(model, base.source, base.language)
            else:
                model.init_adapter_layers()
        if tokens is not None:
            _replace_head(model, base.vocabulary, tokens)
    for conv in model.wav2vec2.feature_extractor.conv_layers:
        conv.requires_grad_(False)
    if hasattr(model.wav2vec2, "masked_spec_embed"):
        model.wav2vec2.masked_spec_embed.requires_grad_(False)
    return model


def _load(base: Base, tokens: Sequence[str] | None) -> Any:
    config = base.config
    if base.vocabulary is None and base.language is None:
        config.vocab_size = len(tokens or ())
    weights = safe_weights(base.source)
    where: dict[str, Any] = {"pretrained_model_name_or_path": base.source.path, **base.source.options}
    if weights is not None:  # beside the checkpoint, without its other files
        where = {"pretrained_model_name_or_path": weights if isinstance(weights, str) else None}
    if isinstance(weights, dict):
        where["state_dict"] = weights
    model, report = _Model.from_pretrained(
        **where,
        config=config,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    fresh = {"lm_head.weight", "lm_head.bias"} if base.vocabulary is None else set[str]()
    missing = sorted(key for key in set(report["missing_keys"]) - fresh if "masked_spec_embed" not in key)
    if base.language is not None:
        missing = [key for key in missing if "adapter_layer" not in key]
    if missing:
        raise ModelError(f"{base.name} lacks weights ({', '.join(missing[:3])}, ...): it is no base to train from")
    return model


@torch.no_grad()
def _replace_head(model: Any, old: Vocabulary | None, tokens: Sequence[str]) -> None:
    """A head for `tokens`; their order is that of ids, the first is the blank."""
    config, before = model.config, model.lm_head
    head = torch.nn.Linear(before.in_features, len(tokens))
    head.weight.normal_(std=config.initializer_range)
    head.bias.zero_()
    known = {text: index for index, text in enumerate(old.texts) if text} if old else {}
    for index, token in enumerate(tokens):
        text = " " if token == DELIMITER else token
        place = old.blank if old and not index else known.get(text, known.get(text.upper(), known.get(text.lower())))
        if place is not None and place < before.out_features:
            head.weight[index], head.bias[index] = before.weight[place], before.bias[place]
    model.lm_head = head
    config.vocab_size = len(tokens)
    if hasattr(config, "blank_token_id"):
        config.blank_token_id = 0
    config.pad_token_id, config.bos_token_id, config.eos_token_id = (tokens.index(t) for t in SPECIAL[:3])


def _check(name: str, config: Any, adapter: str | None) -> bool:
    """Whether the checkpoint has a CTC head. Raises `ModelError` for one that cannot be a base."""
    architectures = set[str](config.architectures or ())
    has_head = "Wav2Vec2ForCTC" in architectures
    if config.model_type != "wav2vec2" or not (has_head or architectures & _HEADLESS):
        found = ", ".join(architectures) or config.model_type
        raise ModelError(f"{name} is {found}; a base is a wav2vec 2.0 or XLS-R checkpoint, with or without a CTC head")
    if geometry(config.conv_kernel, config.conv_stride) != (STRIDE, FIELD) or config.add_adapter:
        raise ModelError(f"{name} does not make one frame of every {STRIDE} samples as XLS-R does")
    if config.feat_extract_norm != "layer" or not config.do_stable_layer_norm:
        raise ModelError(
            f"{name} normalizes over the whole recording (group norm), so it cannot hear live steps; take a base with "
            "layer norm, such as facebook/wav2vec2-xls-r-300m"
        )
    if adapter is not None and (not has_head or config.adapter_attn_dim is None):
        raise ModelError(f"{name} has no language adapters; leave --adapter out to train the model itself")
    if adapter is None and config.adapter_attn_dim is not None:
        raise ModelError(f"{name} has an adapter for each language: name the one to train with --adapter")
    return has_head


def _normalized(source: Source) -> bool:
    try:
        extractor = _Extractor.from_pretrained(source.path, **source.options)
    except OSError:
        return True  # as every published base with layer norm
    if extractor.sampling_rate != SAMPLE_RATE:
        raise ModelError(f"{source.name} needs audio at {extractor.sampling_rate} Hz; only {SAMPLE_RATE} Hz works")
    return bool(extractor.do_normalize)


def _tokenizer(source: Source, adapter: str | None) -> tuple[Any, dict[str, dict[str, int]]]:
    """The tokenizer, None for a new language; and the vocabularies of all languages of a multilingual checkpoint."""
    if adapter is None:
        return load_tokenizer(source), {}
    path = cast(Any, transformers.utils.hub).cached_file(source.path, "vocab.json", **source.options)
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    languages: dict[str, dict[str, int]] = {name: each for name, each in content.items() if isinstance(each, dict)}
    if adapter not in languages:
        return None, languages
    return load_tokenizer(source, adapter), languages


@contextmanager
def _quietly(name: str) -> Generator[None]:
    """Without transformers' notes on weights that are new or unused; its failures as one sentence."""
    logging: Any = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except ModelError:
        raise
    except _FAILURES as error:
        raise ModelError(f"{name} cannot be loaded: {first_line(error)}") from error
    finally:
        logging.set_verbosity(before)
