"""The edge to flashlight-text: a KenLM word n-gram and a lexicon, loaded once, and searches over log-probabilities.

flashlight holds Python's lock while it works, so a long stretch of rows keeps every other thread waiting; `Search.step`
hands over a quarter of a second at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from math import inf, isfinite, log
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import LanguageModelError
from ..quiet import quiet
from .lexicon import Spelling, TokenSpeller
from .ngram import SPECIAL, find_fault, is_binary, read_words
from .vocabulary import Vocabulary

Rows = NDArray[np.float32]

_SUFFIXES: Final = (".binary", ".bin", ".klm", ".arpa", ".arpa.gz")  # of equal stems the first is taken
_STEP: Final = 12  # frames handed over at once
_UNKNOWN: Final = 0  # label of words outside the language model


@dataclass(frozen=True, slots=True)
class Weights:
    """How a hypothesis is scored: log-probability of its path + `lm` x log10 of the n-gram + `word` for each word.

    `beam`, `tokens` and `threshold` bound the search: hypotheses kept, tokens tried at a frame, distance from the best.
    """

    lm: float = 1.6
    word: float = 1.5
    beam: int = 100
    tokens: int = 16
    threshold: float = 15.0
    unknown: float = 0.5  # confidence from which a word that the lexicon lacks takes part as the model heard it

    def __post_init__(self) -> None:
        if not (0 <= self.lm <= 100 and abs(self.word) <= 100 and self.threshold > 0 and isfinite(self.threshold)):
            raise LanguageModelError("an LM weight of 0 to 100, a word score of -100 to 100, a positive threshold")
        if not (1 <= self.beam <= 10_000 and self.tokens >= 1):
            raise LanguageModelError("a beam holds 1 to 10000 hypotheses and tries at least 1 token")


@dataclass(frozen=True, slots=True)
class Files:
    """What a language model is made of. Without a lexicon its words, or those of the n-gram, are spelled by letter."""

    ngram: Path
    lexicon: Path | None
    words: Path | None
    weights: Weights


class Trace(NamedTuple):
    """A hypothesis. Place `i` of its arrays is the row `i - 1` of what was stepped over."""

    tokens: NDArray[np.intp]
    words: NDArray[np.intp]  # label of the word that ends there; -1: none does
    score: float
    acoustic: float  # log-probability of the tokens
    language: float  # log10 probability of the words


class _Stranger(NamedTuple):
    """The known word that stands for all that the lexicon lacks."""

    label: int
    score: float  # log10, at the start of a sentence


class LanguageModel:
    """Read only, shared by any number of searches. Raises `LanguageModelError` for whatever is wrong with the files."""

    def __init__(self, files: Files, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.weights = files.weights
        self.boundary = (speller := TokenSpeller(vocabulary)).boundary
        self.spell = speller.spell
        spellings = _spellings(files, speller)
        self.words = len(spellings)
        self._flashlight, kenlm, dictionary = _modules()
        labels = dictionary.Dictionary()
        for word in ("<unk>", *spellings):
            labels.add_entry(word)
        self._ngram = _load(files.ngram, kenlm, labels)
        self._trie, self._stranger = self._plant(spellings)

    def _plant(self, spellings: dict[str, list[Spelling]]) -> tuple[Any, _Stranger]:
        """The words as a tree, each node knowing the best word behind it; and the rarest known word, as which a word
        that the lexicon lacks is scored."""
        start = self._ngram.start(False)
        unknown = self._ngram.score(start, _UNKNOWN)[1]
        trie = self._flashlight.Trie(len(self.vocabulary), self.boundary)
        rarest, least = _UNKNOWN, 0.0
        for label, (word, ways) in enumerate(spellings.items(), 1):
            score = self._ngram.score(start, label)[1]
            if unknown < score < least and word not in SPECIAL:
                rarest, least = label, score
            for tokens in ways:
                trie.insert([*tokens, self.boundary], label, score)
        if rarest == _UNKNOWN:
            raise LanguageModelError(
                f"none of the {len(spellings)} words of the lexicon is in the language model; do both write upper case?"
            )
        trie.smear(self._flashlight.SmearingMode.MAX)
        return trie, _Stranger(rarest, least)

    def lacks(self, spelling: Spelling) -> bool:
        """Whether the lexicon has no word that is spelled so."""
        node = self._trie.search([*spelling, self.boundary])
        return node is None or not node.labels

    def unigram(self, word: str) -> float:
        """log10 probability of a word whatever comes before it; minus infinity if the lexicon lacks it."""
        spelling = self.spell(word)
        node = self._trie.search([*spelling, self.boundary]) if spelling else None
        nothing = self._ngram.start(True)
        return max((self._ngram.score(nothing, label)[1] for label in (node.labels if node else ())), default=-inf)

    def search(self, strangers: Iterable[Spelling] = ()) -> Search:
        """A new search, in which words that the lexicon lacks take part as `strangers`."""
        weights, flashlight = self.weights, self._flashlight
        options = flashlight.LexiconDecoderOptions(
            weights.beam,
            min(weights.tokens, len(self.vocabulary)),
            weights.threshold,
            weights.lm,
            weights.word,
            -inf,  # flashlight's own unknown words are prefixes of known ones
            0.0,
            False,
            flashlight.CriterionType.CTC,
        )
        trie = flashlight.Trie(len(self.vocabulary), self.boundary)
        root = trie.search([])
        root.children = self._trie.search([]).children
        decoder = flashlight.LexiconDecoder(
            options, trie, self._ngram, self.boundary, self.vocabulary.blank, _UNKNOWN, [], False
        )
        search = Search(decoder, flashlight.TrieNode, root, self.boundary, self._stranger)
        for spelling in strangers:
            search.add(spelling)
        return search


class Search:
    """One beam over one utterance."""

    def __init__(self, decoder: Any, node: Any, root: Any, boundary: int, stranger: _Stranger) -> None:
        self._decoder = decoder
        self._node = node
        self._root = root
        self._boundary = boundary
        self._stranger = stranger
        self._own: dict[Spelling, Any] = {}  # nodes of the tree that are not shared with other searches
        decoder.decode_begin()

    def add(self, spelling: Spelling) -> None:
        """Let a word take part from here on. The shared tree stays as it is: nodes on the way are copied."""
        node, word = self._root, (*spelling, self._boundary)
        for depth, token in enumerate(word, 1):
            if (own := self._own.get(word[:depth])) is None:
                children = node.children
                own = self._own[word[:depth]] = self._node(token)
                own.max_score = self._stranger.score
                if (shared := children.get(token)) is not None:
                    own.children, own.labels, own.scores = shared.children, shared.labels, shared.scores
                    own.max_score = max(shared.max_score, own.max_score)
                node.children = children | {token: own}
            node = own
        node.labels, node.scores = [self._stranger.label], [self._stranger.score]

    def step(self, rows: Rows) -> None:
        """Go on over log-probabilities, (frames, vocabulary)."""
        for at in range(0, len(rows), _STEP):
            block = np.ascontiguousarray(rows[at : at + _STEP])
            self._decoder.decode_step(block.ctypes.data, *block.shape)

    def end(self) -> None:
        """The sentence ends here; adds a place to the traces."""
        self._decoder.decode_end()

    def traces(self) -> list[Trace]:
        """All hypotheses, the best first."""
        traces = [
            Trace(np.array(found.tokens), np.array(found.words), found.score, found.emittingModelScore, found.lmScore)
            for found in self._decoder.get_all_final_hypothesis()
        ]
        return sorted(traces, key=lambda trace: (-trace.score, trace.tokens.tobytes()))


def find(path: Path) -> Files:
    """The parts of a language model: `path` is an ARPA file or a KenLM binary, or a folder with one.

    Beside it may lie `lexicon.txt`, `unigrams.txt` and `attrs.json`, as in the folder `language_model` of a
    `Wav2Vec2ProcessorWithLM`. Raises `LanguageModelError`.
    """
    ngram = _ngram_in(path) if path.is_dir() else path
    if not ngram.is_file():
        raise LanguageModelError(f"{path}: no such file or folder")
    beside = {name: ngram.parent / name for name in ("lexicon.txt", "unigrams.txt", "attrs.json")}
    lexicon, words, weights = (file if file.is_file() else None for file in beside.values())
    return Files(ngram, lexicon, words, _weights(weights) if weights else Weights())


def find_in_checkpoint(folder: Path) -> Files | None:
    """The language model that a checkpoint brings with it, if it does. Raises `LanguageModelError`."""
    inside = folder / "language_model"
    return find(inside) if inside.is_dir() else None


def _ngram_in(folder: Path) -> Path:
    found = {
        file.name.removesuffix(suffix): file
        for suffix in reversed(_SUFFIXES)
        for file in sorted(folder.iterdir())
        if file.name.endswith(suffix)
    }
    if len(found) == 1:
        return next(iter(found.values()))
    names = ", ".join(sorted(file.name for file in found.values()))
    raise LanguageModelError(
        f"{folder} holds several language models: name one of {names}"
        if found
        else f"{folder} holds no language model ({', '.join(_SUFFIXES)})"
    )


def _weights(path: Path) -> Weights:
    """pyctcdecode's weights: alpha is of natural logarithms where KenLM's are decimal."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return replace(Weights(), lm=float(given["alpha"]) * log(10), word=float(given["beta"]))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LanguageModelError(f"{path}: no weights alpha and beta: {error}") from error


def _spellings(files: Files, speller: TokenSpeller) -> dict[str, list[Spelling]]:
    if files.lexicon:
        return speller.read(_lines(files.lexicon), str(files.lexicon))
    words = [line.strip() for line in _lines(files.words)] if files.words else read_words(files.ngram)
    if words is None:
        raise LanguageModelError(
            f"{files.ngram} does not hold its words: put unigrams.txt (a word in each line) or lexicon.txt beside it"
        )
    try:
        return {word: [spelling] for word, spelling in speller.spell_all(filter(None, words)).items()}
    except LanguageModelError as error:
        raise LanguageModelError(f"{files.words or files.ngram}: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path} cannot be read: {error}") from error


def _modules() -> tuple[Any, Any, Any]:
    try:
        names = ("decoder", "decoder.kenlm", "dictionary")
        decoder, kenlm, dictionary = (import_module(f"flashlight.lib.text.{name}") for name in names)
    except ImportError as error:
        hint = " (it comes for Python up to 3.12)" if sys.version_info >= (3, 13) else ""
        raise LanguageModelError(
            f"a language model needs flashlight-text{hint}: pip install 'xlsr-live[lm]'", code="not_installed"
        ) from error
    return decoder, kenlm, dictionary


def _load(path: Path, kenlm: Any, labels: Any) -> Any:
    """KenLM checks what it reads, and says what is wrong as a developer would want to know it."""
    binary = is_binary(path)
    if binary:
        read_words(path)  # KenLM does not miss them where they are cut off
    try:
        with nullcontext() if binary else quiet():  # it draws a progress bar while it reads an ARPA file
            return kenlm.KenLM(str(path), labels)
    except (RuntimeError, ValueError, MemoryError) as error:
        first = None if isinstance(error, UnicodeDecodeError) else str(error).strip().splitlines()[-1]
        fault = first if binary else find_fault(path) or first
        raise LanguageModelError(f"{path} is no n-gram that KenLM can load: {fault}") from error
