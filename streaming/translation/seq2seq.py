"""Text to text: Marian (Opus-MT), M2M-100, NLLB and mBART checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import transformers

from ..errors import ModelError
from ..model.source import Source
from .checkpoints import language_tokens, load_network, load_tokenizer, marian_targets
from .generation import LONGEST, generate
from .text import finished, sentence
from .translator import Segment

_Network: Any = transformers.AutoModelForSeq2SeqLM


class TextTranslator:
    """Translates text; `beams` 1 is greedy. Raises `ModelError`."""

    speech = False
    costly = True

    def __init__(self, source: Source, config: Any, *, device: str = "cpu", beams: int = 1) -> None:
        self.name = source.name
        self.max_batch = 32 if device.startswith("cuda") else 8
        self._beams = beams
        self._tokenizer = load_tokenizer(source)
        self._tokenizing = threading.Lock()  # an abandoned call may still run, and the tokenizer has state
        self._network: Any = load_network(source, _Network, config, device)
        self._prefixes = marian_targets(self._tokenizer) if config.model_type == "marian" else {}
        self._tokens = {} if config.model_type == "marian" else language_tokens(self._tokenizer)
        if not self._tokens and not getattr(self._tokenizer, "target_lang", None) and not self._prefixes:
            raise ModelError(f"{self.name} does not say which language it translates into")

    def sources(self) -> tuple[str, ...]:
        if self._tokens:
            return tuple(self._tokens)
        source = getattr(self._tokenizer, "source_lang", None)
        return (source,) if source and source.islower() and len(source) <= 3 else ()  # "ROMANCE": several

    def targets(self, source: str | None) -> tuple[str, ...]:
        return tuple(self._tokens or self._prefixes or (self._tokenizer.target_lang,))

    def translate(self, segments: Sequence[Segment]) -> list[str]:
        # Languages of the source differ only where each utterance has its own: they are prefixes of the tokenizer.
        texts: list[str] = [""] * len(segments)
        for source in dict.fromkeys(segment.source for segment in segments):
            places = [place for place, segment in enumerate(segments) if segment.source == source]
            for place, text in zip(places, self._batch([segments[at] for at in places], source), strict=True):
                texts[place] = text
        return texts

    def close(self) -> None:
        self._network = None

    def _batch(self, segments: Sequence[Segment], source: str | None) -> list[str]:
        texts = [f"{self._prefixes.get(each.target, '')} {sentence(each.text)}".strip() for each in segments]
        with self._tokenizing:
            if self._tokens and source is not None:
                self._tokenizer.src_lang = source
            inputs = self._tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=LONGEST)
        lengths: list[int] = inputs["attention_mask"].sum(dim=1).tolist()
        rows = generate(
            self._network,
            {name: inputs[name].to(self._network.device) for name in ("input_ids", "attention_mask")},
            starts=[self._tokens[each.target] for each in segments] if self._tokens else None,
            limits=[min(LONGEST, 2 * length + 32) for length in lengths],
            beams=self._beams,
        )
        with self._tokenizing:
            return [finished(self._tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
