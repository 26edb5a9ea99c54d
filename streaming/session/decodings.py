"""The languages of a session: which may be used when, and the decoding in each.

A choice is one language, or several of which each utterance gets one. A new choice holds for utterances whose speech
begins after it came; an open utterance keeps its language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..config import SessionConfig, read_hotwords
from ..ctc.calibration import LanguageScale
from ..ctc.languages import LanguageSet
from ..ctc.spelling import Speller
from ..ctc.vocabulary import Vocabulary
from ..errors import ConfigError
from .deciders import ConfidenceDecider, Decider, HeadDecider
from .decoding import Decoding
from .timeline import Timeline


class Choice:
    """The languages that an utterance may have, in order, with their decodings."""

    def __init__(self, languages: LanguageSet, decodings: Mapping[str | None, Decoding]) -> None:
        self.languages = languages
        self.decodings = decodings

    @property
    def only(self) -> Decoding | None:
        """The decoding of the only language; None if there are several."""
        return next(iter(self.decodings.values())) if len(self.decodings) == 1 else None

    def decider(self) -> Decider:
        """The decider among these languages."""
        if self.languages.classes is not None:
            return HeadDecider(self.languages.classes)
        entries: list[tuple[str, Vocabulary, LanguageScale]] = []
        for language, (vocabulary, assets) in self.languages.entries.items():
            scale = assets.calibration and assets.calibration.language
            entries.append((language or "", vocabulary, scale or LanguageScale()))
        return ConfidenceDecider(entries)


class Decodings:
    """The decodings of one session. Raises `ConfigError` as `Decoding` does.

    A hotword applies only in the languages that can write it; at least one language of the choice must.
    """

    def __init__(self, languages: LanguageSet, config: SessionConfig) -> None:
        self._config = config  # with the newest hotwords and grammar
        self._choices = Timeline(self._make(languages))

    @property
    def newest(self) -> Choice:
        return self._choices.values[-1]

    @property
    def grammar(self) -> str:
        return self._config.grammar

    def at(self, sample: int) -> Choice:
        """The choice for an utterance whose speech begins at a sample."""
        return self._choices.at(sample)

    def forget(self, sample: int) -> None:
        """Drop what holds only before a sample: no later utterance begins before it."""
        self._choices.forget(sample)
        for decoding in self._all():
            decoding.forget(sample)

    def set_languages(self, languages: LanguageSet, at: int) -> None:
        """Choose other languages after sample `at`. Raises `ConfigError`; then the earlier choice stays."""
        self._choices.set(self._make(languages), at)

    def set_hotwords(self, hotwords: Sequence[str], at: int) -> None:
        """Replace the hotwords of all languages after sample `at`. Raises `ConfigError`; then the earlier ones stay."""
        newest = self.newest
        shares = _shares(hotwords, newest.languages)
        made = [(decoding, decoding.make_hotwords(shares[each])) for each, decoding in newest.decodings.items()]
        for decoding in self._all():
            if decoding not in newest.decodings.values():  # of an utterance that began before the choice changed
                made.append((decoding, decoding.make_hotwords(_writable(hotwords, Speller(decoding.vocabulary)))))
        for decoding, own in made:  # only now, because one language can refuse what another accepts
            decoding.set_hotwords(own, at)
        self._config = msgspec.structs.replace(self._config, hotwords=tuple(hotwords))

    def set_grammar(self, grammar: str, at: int) -> None:
        """See `Decoding.set_grammar`. Raises `ConfigError` where several languages are allowed."""
        if (decoding := self.newest.only) is None:
            raise ConfigError("voice commands need one language; choose it before the grammar")
        decoding.set_grammar(grammar, at)
        self._config = msgspec.structs.replace(self._config, grammar=grammar)

    def take_notes(self) -> list[str]:
        """See `Decoding.take_notes`."""
        return list(dict.fromkeys(note for each in self._all() for note in each.take_notes()))

    def _all(self) -> list[Decoding]:
        return list({id(each): each for choice in self._choices.values for each in choice.decodings.values()}.values())

    def _make(self, languages: LanguageSet) -> Choice:
        config = self._config
        if len(languages) > 1 and (config.grammar.strip() or config.wake):
            raise ConfigError("voice commands need one language; leave out grammar and wake")
        shares = _shares(config.hotwords, languages)
        decodings = {
            language: Decoding(
                vocabulary, msgspec.structs.replace(config, hotwords=shares[language]), assets, language=language
            )
            for language, (vocabulary, assets) in languages.entries.items()
        }
        return Choice(languages, decodings)


def _shares(hotwords: Sequence[str], languages: LanguageSet) -> dict[str | None, tuple[str, ...]]:
    """For each language the hotwords that it can write. A phrase that none can write goes to all: they refuse it."""
    if len(languages) == 1:
        return dict.fromkeys(languages, tuple(hotwords))
    shares = {language: _writable(hotwords, Speller(languages[language][0])) for language in languages}
    lost = set(hotwords).difference(*shares.values())
    return {
        language: tuple(each for each in hotwords if each in share or each in lost)
        for language, share in shares.items()
    }


def _writable(hotwords: Sequence[str], speller: Speller) -> tuple[str, ...]:
    return tuple(each for each in hotwords if all(speller.writes(phrase) for phrase in read_hotwords((each,))))
