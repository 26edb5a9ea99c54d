"""The part of a tokenizer that decoders use: the text of each token, the blank, and word boundaries.

Works for any `Wav2Vec2CTCTokenizer`: characters or sub-words with a word delimiter, or without one (Chinese, phonemes).
Without a delimiter every token is a word and text has no spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

BOUNDARY = " "


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`texts[i]` is the text of token `i`: a blank space ends a word, an empty string writes nothing."""

    texts: tuple[str, ...]
    blank: int
    silent: tuple[bool, ...] = field(init=False, repr=False, compare=False)  # tokens that write no letter
    separator: str = field(init=False)  # between words: a blank space, or nothing in a vocabulary without boundaries

    def __post_init__(self) -> None:
        if not 0 <= self.blank < len(self.texts):
            raise ValueError(f"blank {self.blank} is not one of {len(self.texts)} tokens")
        object.__setattr__(self, "silent", tuple(not text.strip() for text in self.texts))
        has_boundary = any(text != text.strip() for text in self.texts)
        object.__setattr__(self, "separator", BOUNDARY if has_boundary else "")

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_tokens(
        cls,
        tokens: Sequence[str],
        *,
        blank: int,
        delimiter: str | None = "|",
        silent: Iterable[str] = (),
        lower: bool = False,
    ) -> Vocabulary:
        """Convert a tokenizer's tokens, by id. `silent` tokens (`<s>`, `</s>`, `<unk>`, padding) write nothing."""
        quiet = set(silent)

        def text(index: int, token: str) -> str:
            if index == blank or token in quiet:
                return ""
            if token == delimiter:
                return BOUNDARY
            return token.lower() if lower else token

        return cls(tuple(text(i, token) for i, token in enumerate(tokens)), blank)

    def join(self, words: Iterable[str]) -> str:
        return self.separator.join(words)
