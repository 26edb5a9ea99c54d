"""How words are spelled in a model's tokens: from a lexicon file, or letter by letter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from ..errors import LanguageModelError
from .blanks import split
from .vocabulary import BOUNDARY, Vocabulary

Spelling = tuple[int, ...]  # tokens of a word, without the boundary that ends it
_CASES: tuple[Callable[[str], str], ...] = (str, str.upper, str.lower)
_DELIMITER = "|"  # what lexicon files call the boundary


class TokenSpeller:
    """Spells words in the tokens of one vocabulary. Raises `LanguageModelError` if it has no word boundary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokens = {text: token for token, text in enumerate(vocabulary.texts) if text}
        if BOUNDARY not in self._tokens:
            raise LanguageModelError("this model's vocabulary has no word boundary, so it cannot use a word n-gram")
        self.boundary = self._tokens[BOUNDARY]

    def spell(self, word: str) -> Spelling | None:
        """Letter by letter, as the tokenizers of these models do; None if a letter is not in the vocabulary."""
        tokens = [self._tokens.get(letter) for letter in word]
        known = [token for token in tokens if token is not None and token != self.boundary]
        return tuple(known) if known and len(known) == len(tokens) else None

    def spell_all(self, words: Iterable[str]) -> dict[str, Spelling]:
        """Words that can be spelled, in the case that fits most of them. Raises `LanguageModelError` if most cannot."""
        words = list(dict.fromkeys(words))
        fitting = ({word: found for word in words if (found := self.spell(case(word)))} for case in _CASES)
        best = max(fitting, key=len)
        if 2 * len(best) <= len(words):
            unknown = next((word for word in words if word not in best), "")
            raise LanguageModelError(
                f"the words do not fit the model's letters: it can spell {len(best)} of {len(words)}, not {unknown!r}"
            )
        return best

    def read(self, lines: Iterable[str], name: str) -> dict[str, list[Spelling]]:
        """Spellings by word from lines `WORD TOKEN TOKEN ... |`. Raises `LanguageModelError` with line and column."""
        spellings: dict[str, list[Spelling]] = {}
        number_of = self._tokens.get
        for number, line in enumerate(lines, 1):
            if not (fields := split(line)):
                continue
            word, tokens = fields[0], fields[1:-1] if fields[-1] == _DELIMITER else fields[1:]
            spelling = tuple(map(number_of, tokens))
            if not spelling:
                raise LanguageModelError(f"{name}, line {number}, column {len(line)}: no tokens follow {word!r}")
            if None in spelling or self.boundary in spelling:
                place = next(place for place, number in enumerate(spelling) if number in (None, self.boundary))
                column = line.index(word) + len(word)
                for token in tokens[: place + 1]:
                    column = line.index(token, column) + len(token)
                where = f"{name}, line {number}, column {column - len(tokens[place]) + 1}"
                raise LanguageModelError(
                    f"{where}: {tokens[place]!r} is no token of the model{self._hint(tokens[place])}"
                )
            if (known := spellings.get(word)) is None:
                spellings[word] = [cast(Spelling, spelling)]
            elif spelling not in known:
                known.append(cast(Spelling, spelling))
        if not spellings:
            raise LanguageModelError(f"{name} has no words")
        return spellings

    def _hint(self, token: str) -> str:
        others = [other for case in _CASES if (other := case(token)) in self._tokens]
        return f"; it has {others[0]!r}: is the lexicon for another model?" if others else ""
