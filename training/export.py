"""The fine-tuned checkpoint in the published form: safetensors, tokenizer, feature extractor."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import safetensors.torch
import transformers

from ..streaming.ctc.priors import FILE as PRIORS
from ..streaming.frames import SAMPLE_RATE
from .base import DELIMITER, SPECIAL, Base

_Tokenizer: Any = transformers.Wav2Vec2CTCTokenizer
_Extractor: Any = transformers.Wav2Vec2FeatureExtractor
_Processor: Any = transformers.Wav2Vec2Processor

ADAPTER: Final = "adapter.{}.safetensors"


def export(model: Any, base: Base, tokens: Sequence[str] | None, folder: Path) -> list[Path]:
    """Write the plain model with its processor to `folder`; return the files with weights.

    `tokens` are those of a new head, None for the base's own. An adapter is a file by itself, which also works beside
    the other adapters of its base.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tokens is None and base.vocabulary is not None:
        model.config.pad_token_id = base.vocabulary.blank  # transformers would read a missing one as token 0
    others = _other_adapters(base, folder)
    tokenizer = _tokenizer(base, tokens, folder)
    extractor = _Extractor(sampling_rate=SAMPLE_RATE, do_normalize=base.normalized, return_attention_mask=True)
    _Processor(extractor, tokenizer).save_pretrained(folder)
    extractor.save_pretrained(folder)
    model.save_pretrained(folder)
    if tokens is None and base.language is None and (priors := Path(base.source.path) / PRIORS).is_file():
        shutil.copyfile(priors, folder / PRIORS)  # until they are measured anew
    written = sorted(folder.glob("model*.safetensors"))
    if base.language is not None:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model._get_adapters().items()}
        path = folder / ADAPTER.format(base.language)
        part = path.with_suffix(".part")
        try:
            cast(Any, safetensors.torch).save_file(weights, part, metadata={"format": "pt"})
            os.replace(part, path)  # an earlier run may have linked it to the file of the base
        finally:
            part.unlink(missing_ok=True)
        written = [path, *written]
    for path in written:
        path.chmod(0o644)
    return [*written, *others]


def _tokenizer(base: Base, tokens: Sequence[str] | None, folder: Path) -> Any:
    if tokens is None and base.language is None:
        base.tokenizer.save_pretrained(folder)
        return base.tokenizer
    own: Mapping[str, int] = (
        base.languages[base.language or ""] if tokens is None else {token: index for index, token in enumerate(tokens)}
    )
    words: Mapping[str, Any] = own
    if base.language is not None:  # a vocabulary for each language whose adapter is here
        words = {name: each for name, each in base.languages.items() if any(folder.glob(f"adapter.{name}.*"))}
        words |= {base.language: dict(own)}
    path = folder / "vocab.json"
    path.write_text(json.dumps(words, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    tokenizer = _Tokenizer(str(path), word_delimiter_token=DELIMITER, target_lang=base.language, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _other_adapters(base: Base, folder: Path) -> list[Path]:
    """The adapters of other languages beside a local base, linked or copied."""
    source = Path(base.source.path)
    copied: list[Path] = []
    for path in sorted(source.glob("adapter.*")) if base.language is not None and source.is_dir() else ():
        target = folder / path.name
        if not target.exists() and path.name.split(".")[1] != base.language:
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target)
            copied.append(target)
    return copied
