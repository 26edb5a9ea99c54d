"""Tokenizers of checkpoints as a `Vocabulary`: the text of each token, and which of them is CTC's blank.

Characters and sub-words with a delimiter come as a `Wav2Vec2CTCTokenizer`; pieces in the manner of SentencePiece, whose
text carries its own blank space, as a `tokenizer.json`.
"""

from __future__ import annotations

from typing import Any, Final, cast

import transformers

from ..ctc.vocabulary import Vocabulary
from ..errors import ModelError
from .layouts import Layout
from .source import Source

_Tokenizer: Any = transformers.Wav2Vec2CTCTokenizer
_Pieces: Any = transformers.PreTrainedTokenizerFast

_CTC: Final = ("Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer")
_BLANK: Final = "<blank>"


def load_tokenizer(source: Source, language: str | None = None) -> Any:
    """A multilingual one holds one dictionary per language, and needs the language. Raises `ModelError`."""
    get_config = cast(Any, transformers.models.auto.tokenization_auto).get_tokenizer_config
    kind: str | None = get_config(source.path, **source.options).get("tokenizer_class")
    if kind is None or kind in _CTC:
        return _ctc_tokenizer(source, language)
    return _Pieces.from_pretrained(source.path, **source.options)


def make_vocabulary(source: Source, tokenizer: Any, layout: Layout, size: int) -> Vocabulary:
    """The vocabulary of a head with `size` outputs, with the checkpoint's own blank. Raises `ModelError`."""
    found = layout.blank
    if found is None:
        found = _blank(source, tokenizer, layout.config, _tokens(tokenizer, size))
    if not 0 <= found < size:
        raise ModelError(f"{source.name}: CTC's blank, token {found}, is none of the head's {size} outputs")
    return read_vocabulary(tokenizer, size, found)


def read_vocabulary(tokenizer: Any, size: int, blank: int | None = None) -> Vocabulary:
    """The vocabulary of a head with `size` outputs; CTC's blank is by default the padding token. Raises
    `ModelError`."""
    blank = _padding(tokenizer, size) if blank is None else blank
    tokens = _tokens(tokenizer, size)
    if isinstance(tokenizer, _Pieces):
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


def _tokens(tokenizer: Any, size: int) -> list[str]:
    tokens = [""] * size
    for token, index in tokenizer.get_vocab().items():
        if index < size:  # a tokenizer may have tokens that the head cannot emit
            tokens[index] = token
    return tokens


def _ctc_tokenizer(source: Source, language: str | None) -> Any:
    if language is not None:
        return _Tokenizer.from_pretrained(source.path, **source.options, target_lang=language)
    try:
        return _Tokenizer.from_pretrained(source.path, **source.options)
    except TypeError as error:
        raise ModelError(f"{source.name} has a vocabulary for each language; name the language") from error


def _blank(source: Source, tokenizer: Any, config: Any, tokens: list[str]) -> int:
    """transformers' blank is the padding token. Toolkits whose blank is another token lead to converted checkpoints
    that do not say so; a wrong guess would give no text, or text full of repeats."""
    pad = _padding(tokenizer, len(tokens))
    others = {name: tokens.index(name) for name in (_BLANK,) if name in tokens}
    if tokens[:2] == ["<s>", "<pad>"]:  # fairseq2's order, and there the blank is token 0
        others["<s>"] = 0
    if config.pad_token_id is not None and 0 <= config.pad_token_id < len(tokens):
        others["the config's pad_token_id"] = config.pad_token_id
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
