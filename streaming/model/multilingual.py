"""Checkpoints with an adapter for each language, as MMS: which languages there are, and what each one needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ..config import ALLOWED_LANGUAGES, ModelOptions
from ..ctc.vocabulary import Vocabulary
from ..errors import ConfigError, ModelError
from ..languages import no_language, resolve
from .adapters import AdapterShape, languages_of, read_adapter
from .assets import load_language_assets
from .languages import Languages
from .layouts import Layout
from .source import Source
from .tokens import load_tokenizer, make_vocabulary

_FEWEST_SLOTS: Final = 2 * ALLOWED_LANGUAGES[1]  # one session uses half of them, so it never reloads its own


@dataclass(frozen=True, slots=True)
class Multilingual:
    """The languages of a checkpoint that is not loaded yet."""

    source: Source
    layout: Layout
    known: tuple[str, ...]
    default: str | None  # that of the options, or the only one


def find_languages(source: Source, layout: Layout, language: str | None) -> tuple[Multilingual | None, str | None]:
    """Its languages, and the checkpoint's own code of `language`. None for a checkpoint with one language, or whose
    adapters must be merged into the model.

    The language that the tokenizer names (`target_lang`: "eng" in MMS) is no default, or a forgotten option would give
    English text of any speech. Raises `ModelError` if `language` is not one of the checkpoint's.
    """
    config = layout.config
    if config.adapter_attn_dim is None:
        if language is not None:
            raise ModelError(f"{source.name} has no language adapters; leave the language out")
        return None, None
    known = languages_of(source)
    if known is None:
        return None, language
    merged = not (config.feat_extract_norm == "layer" and config.do_stable_layer_norm)
    if language is not None:
        try:
            language = resolve(language, known, source.name)
        except ConfigError as error:
            raise ModelError(str(error)) from error
    elif len(known) == 1:
        language = known[0]
    elif merged:
        raise ModelError(no_language(known, source.name))
    return None if merged else Multilingual(source, layout, known, language), language


def make_languages(found: Multilingual, model: Any, max_batch: int, options: ModelOptions) -> Languages:
    """For a model on its device. Reads the adapter of the default language. Raises `ModelError`."""
    config, source = found.layout.config, found.source
    shape = AdapterShape(config.num_hidden_layers, config.hidden_size, config.adapter_attn_dim)
    languages = Languages(
        source.name,
        found.known,
        default=found.default,
        shape=shape,
        slots=max(_FEWEST_SLOTS, 2 * max_batch),
        device=model.device,
        dtype=model.dtype,
        read=partial(read_adapter, source, shape=shape),
        vocabulary_of=partial(_vocabulary, source, found.layout),
        assets_of=lambda language, vocabulary: load_language_assets(
            source, language, vocabulary, options.lm, options.calibration, default=language == found.default
        ),
    )
    if found.default is not None:
        languages.ensure(found.default)
    return languages


def _vocabulary(source: Source, layout: Layout, language: str, tokens: int) -> Vocabulary:
    try:
        return make_vocabulary(
            source,
            load_tokenizer(source, language),
            tokens,
            blank=layout.blank,
            padding=layout.config.pad_token_id,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{source.name}: the vocabulary of {language} cannot be read") from error
