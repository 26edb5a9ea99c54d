"""Tokenizers of checkpoints as a `Vocabulary`: the text of each token, and which of them is CTC's blank.

Characters and sub-words with a delimiter come as a `Wav2Vec2CTCTokenizer`; pieces in the manner of SentencePiece, whose
text carries its own blank space, as a `tokenizer.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from ..ctc.vocabulary import Vocabulary
from ..errors import ModelError
from .source import Source

CTC: Final = ("Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer")
_BLANK: Final = "<blank>"


@dataclass(frozen=True)
class PlainTokenizer:
    """What this module reads of a `Wav2Vec2CTCTokenizer`, without transformers, whose import takes seconds."""

    vocabulary: dict[str, int]
    bos_token: str | None
    eos_token: str | None
    unk_token: str | None
    pad_token: str | None
    word_delimiter_token: str | None
    do_lower_case: bool

    @property
    def pad_token_id(self) -> int | None:
        return None if self.pad_token is None else self.vocabulary[self.pad_token]

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


def load_tokenizer(source: Source, language: str | None = None) -> Any:
    """A multilingual one holds one dictionary per language, and needs the language. Raises `ModelError`."""
    import transformers

    get_config = cast(Any, transformers.models.auto.tokenization_auto).get_tokenizer_config
    kind: str | None = get_config(source.path, **source.options).get("tokenizer_class")
    if kind is None or kind in CTC:
        return _ctc_tokenizer(source, language)
    return cast(Any, transformers.PreTrainedTokenizerFast).from_pretrained(source.path, **source.options)


def make_vocabulary(source: Source, tokenizer: Any, size: int, *, blank: int | None, padding: int | None) -> Vocabulary:
    """The vocabulary of a head with `size` outputs. The config may name the `blank`, and a `padding` token.

    Raises `ModelError`, also where the checkpoint does not say which token is CTC's blank.
    """
    found = blank
    if found is None:
        found = _blank(source, tokenizer, padding, _tokens(tokenizer, size))
    if not 0 <= found < size:
        raise ModelError(f"{source.name}: CTC's blank, token {found}, is none of the head's {size} outputs")
    return read_vocabulary(tokenizer, size, found)


def read_vocabulary(tokenizer: Any, size: int, blank: int | None = None) -> Vocabulary:
    """The vocabulary of a head with `size` outputs; CTC's blank is by default the padding token. Raises
    `ModelError`."""
    blank = _padding(tokenizer, size) if blank is None else blank
    tokens = _tokens(tokenizer, size)
    if not isinstance(tokenizer, PlainTokenizer) and _has_pieces(tokenizer):
        return Vocabulary(_texts(tokenizer, tokens, blank), blank)
    special: tuple[str | None, ...] = (
        tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token
    )  # fmt: skip
    return Vocabulary.from_tokens(
        tokens,
        blank=blank,
        delimiter=tokenizer.word_delimiter_token,
        silent=[token for token in special if token],
        lower=bool(tokenizer.do_lower_case),
    )


def _has_pieces(tokenizer: Any) -> bool:
    import transformers

    return isinstance(tokenizer, cast(Any, transformers.PreTrainedTokenizerFast))


def _tokens(tokenizer: Any, size: int) -> list[str]:
    tokens = [""] * size
    for token, index in tokenizer.get_vocab().items():
        if index < size:  # a tokenizer may have tokens that the head cannot emit
            tokens[index] = token
    return tokens


def _ctc_tokenizer(source: Source, language: str | None) -> Any:
    import transformers

    kind: Any = transformers.Wav2Vec2CTCTokenizer
    if language is not None:
        return kind.from_pretrained(source.path, **source.options, target_lang=language)
    try:
        return kind.from_pretrained(source.path, **source.options)
    except TypeError as error:
        raise ModelError(f"{source.name} has a vocabulary for each language; name the language") from error


def _blank(source: Source, tokenizer: Any, padding: int | None, tokens: list[str]) -> int:
    """transformers' blank is the padding token. Toolkits whose blank is another token lead to converted checkpoints
    that do not say so; a wrong guess would give no text, or text full of repeats."""
    pad = _padding(tokenizer, len(tokens))
    others = {name: tokens.index(name) for name in (_BLANK,) if name in tokens}
    if tokens[:2] == ["<s>", "<pad>"]:  # fairseq2's order, and there the blank is token 0
        others["<s>"] = 0
    if padding is not None and 0 <= padding < len(tokens):
        others["the config's pad_token_id"] = padding
    rivals = [f"{name} ({index})" for name, index in others.items() if index != pad]
    if rivals:
        raise ModelError(
            f"{source.name} does not say which token is CTC's blank: {tokenizer.pad_token} ({pad}) or "
            f'{", ".join(rivals)}; add "blank_token_id" to its config.json'
        )
    return pad


def _padding(tokenizer: Any, size: int) -> int:
    pad: int | None = tokenizer.pad_token_id
    if pad is None or pad >= size:
        raise ModelError("the tokenizer has no padding token for CTC's blank that the head can emit")
    return pad


def _texts(tokenizer: Any, tokens: list[str], blank: int) -> tuple[str, ...]:
    """What each piece writes after another: its decoder knows how a piece says that a word begins."""
    backend: Any = tokenizer.backend_tokenizer
    silent = {blank, *tokenizer.all_special_ids}
    pieces = [index for index, token in enumerate(tokens) if token and index not in silent]
    first = next((index for index in pieces if backend.decode([index]).strip()), None)
    if first is None:
        raise ModelError("the tokenizer has no token that writes anything")
    start = len(backend.decode([first]))
    texts = [""] * len(tokens)
    for index in pieces:
        texts[index] = backend.decode([first, index])[start:]
    if "\ufffd" in "".join(texts):
        raise ModelError("this is a tokenizer of bytes; only those of characters or sub-words work")
    return tuple(texts)
