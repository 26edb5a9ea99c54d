"""A language model: a word n-gram and a lexicon, loaded once and shared by all searches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, log
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ..errors import LanguageModelError
from .arpa import read_arpa
from .blanks import strip
from .boosts import NO_BOOSTS, Boosts
from .kenlm import is_binary, read_kenlm
from .lexicon import Spelling, TokenSpeller
from .ngram import SPECIAL, UNKNOWN, Ngram
from .priors import LabelPriors
from .scoring import Weights
from .search import Search
from .spelling import Speller
from .trie import Trie
from .vocabulary import Vocabulary

_SUFFIXES: Final = (".binary", ".bin", ".klm", ".arpa", ".arpa.gz")  # of equal stems the first is taken


@dataclass(frozen=True, slots=True)
class Files:
    """Files of a language model. Without a lexicon, the words of `words` or of the n-gram are spelled by letter."""

    ngram: Path
    lexicon: Path | None
    words: Path | None
    weights: Weights


class BoostedPhrases(NamedTuple):
    """Phrases that a search boosts, and those of their words that the lexicon lacks."""

    boosts: Boosts
    words: Trie | None


class LanguageModel:
    """Immutable and shared by all searches. Raises `LanguageModelError` for files that it cannot use.

    `progress` receives lines of text while a long ARPA file loads. `priors` are those of the acoustic model.
    """

    def __init__(
        self,
        files: Files,
        vocabulary: Vocabulary,
        progress: Callable[[str], None] | None = None,
        priors: LabelPriors | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.weights = files.weights
        self.writes = np.array([bool(text.strip()) for text in vocabulary.texts])  # (vocabulary,): no space, no blank
        self.writes[vocabulary.blank] = False
        self.priors = priors
        self.boundary = (speller := TokenSpeller(vocabulary)).boundary
        self.spell = speller.spell
        self.ngram = read_kenlm(files.ngram) if is_binary(files.ngram) else read_arpa(files.ngram, progress)
        spellings = _spellings(files, speller, self.ngram)
        self.words = len(spellings)
        self._rarest = _rarest(spellings, self.ngram)
        labels = [self.ngram.numbers.get(word, UNKNOWN) for word, ways in spellings.items() for _ in ways]
        self.trie = self._plant([way for ways in spellings.values() for way in ways], labels)

    def _plant(self, spellings: Sequence[Spelling], labels: Sequence[int]) -> Trie:
        numbers = np.array(labels, np.int32)
        return Trie.build(spellings, numbers, self.ngram.scores[numbers], self.boundary)

    def lacks(self, spelling: Spelling) -> bool:
        """Whether the lexicon has no word with this spelling."""
        return not self.trie.find(spelling)

    def unigram(self, word: str) -> float:
        """log10 probability of a word without context; minus infinity if the lexicon lacks it."""
        spelling = self.spell(word)
        labels = self.trie.find(spelling) if spelling else []
        return max((float(self.ngram.scores[label]) for label in labels), default=-inf)

    def sentence_end(self, words: Sequence[str]) -> float | None:
        """log10 probability that a sentence of these words ends here; None if the model has no ends of sentences."""
        ngram, context = self.ngram, self.ngram.start
        if ngram.end == UNKNOWN:
            return None
        for word in words[-ngram.order :]:
            spelling = self.spell(word)
            labels = self.trie.find(spelling) if spelling else []
            context = ngram.score(context, np.array(labels[:1] or [UNKNOWN]))[1]
        return float(ngram.score(context, np.array([ngram.end]))[0][0])

    def unknown_words(self, spellings: Iterable[Spelling]) -> Trie:
        """A trie of words that the lexicon lacks, scored as its rarest word; see `Search.extend`."""
        spelled = list(dict.fromkeys(spellings))
        return self._plant(spelled, [self._rarest] * len(spelled))

    def boosted(self, phrases: Mapping[str, float]) -> BoostedPhrases:
        """Boosts by phrase, in nats for each letter. Phrases that the tokens cannot spell are left out."""
        speller = Speller(self.vocabulary)
        spelled: list[tuple[list[Spelling], float]] = []
        for phrase, boost in phrases.items():
            words = [self.spell(speller.spell(word) or "") for word in speller.units(phrase)]
            if words and all(words):
                spelled.append(([word for word in words if word], boost))
        lacking = [word for words, _ in spelled for word in words if self.lacks(word)]
        boosts = Boosts.build(spelled, len(self.vocabulary), self.boundary) if spelled else NO_BOOSTS
        return BoostedPhrases(boosts, self.unknown_words(lacking) if lacking else None)

    def search(self, phrases: BoostedPhrases | None = None, *, merged: bool = True, narrow: bool = False) -> Search:
        """A new search. `merged`: see `Search`; `narrow`: see `Weights.narrow`."""
        boosts = phrases.boosts if phrases else NO_BOOSTS
        blank = self.vocabulary.blank
        weights = self.weights.narrow() if narrow else self.weights
        offsets = self.priors.offsets(blank) if self.priors else None
        search = Search(self.ngram, self.trie, weights, self.boundary, blank, boosts, offsets=offsets, merged=merged)
        if phrases and phrases.words:
            search.extend(phrases.words)
        return search


def find(path: Path) -> Files:
    """The files of a language model: `path` is an ARPA file, a KenLM binary, or a folder with one of them.

    Optional files in the same folder: `lexicon.txt`, and `unigrams.txt` and `attrs.json` as a
    `Wav2Vec2ProcessorWithLM` saves them in `language_model`. Raises `LanguageModelError`.
    """
    ngram = _ngram_in(path) if path.is_dir() else path
    if not ngram.is_file():
        raise LanguageModelError(f"{path}: no such file or folder")
    beside = {name: ngram.parent / name for name in ("lexicon.txt", "unigrams.txt", "attrs.json")}
    lexicon, words, weights = (file if file.is_file() else None for file in beside.values())
    return Files(ngram, lexicon, words, _weights(weights) if weights else Weights())


def find_in_checkpoint(folder: Path) -> Files | None:
    """The language model inside a checkpoint; None if there is none. Raises `LanguageModelError`."""
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
        f"{folder} has several language models: name one of {names}"
        if found
        else f"{folder} has no language model ({', '.join(_SUFFIXES)})"
    )


def _weights(path: Path) -> Weights:
    """pyctcdecode's weights: its alpha multiplies natural logarithms, `Weights.lm` decimal ones."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return replace(Weights(), lm=float(given["alpha"]) * log(10), word=float(given["beta"]))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LanguageModelError(f"{path} does not have the weights alpha and beta: {error}") from error


def _spellings(files: Files, speller: TokenSpeller, ngram: Ngram) -> dict[str, list[Spelling]]:
    if files.lexicon:
        return speller.read(_lines(files.lexicon), str(files.lexicon))
    words = [strip(line) for line in _lines(files.words)] if files.words else ngram.words
    try:
        return {
            word: [spelling]
            for word, spelling in speller.spell_all(word for word in words if word and word not in SPECIAL).items()
        }
    except LanguageModelError as error:
        raise LanguageModelError(f"{files.words or files.ngram}: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path} cannot be read: {error}") from error


def _rarest(spellings: Mapping[str, list[Spelling]], ngram: Ngram) -> int:
    """The number of the least likely word of the lexicon that the n-gram knows."""
    known = [ngram.numbers[word] for word in spellings if word in ngram.numbers and word not in SPECIAL]
    if not known:
        raise LanguageModelError(
            f"none of the {len(spellings)} words of the lexicon is in the n-gram; do both use the same case?"
        )
    return min(known, key=lambda number: ngram.scores[number])
