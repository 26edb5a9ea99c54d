"""Sentence case for models that write capitals only. The server's page has the same rules (server/page/case.js)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..protocol.events import Command, Event, Final, Partial, Rejected, Word


class SentenceCase:
    """Events of a session with their text in sentence case, until the model writes a small letter."""

    def __init__(self) -> None:
        self._cased = False

    def receive(self, event: Event) -> Event:
        """The event with capitals only where a sentence has them; other events as they are."""
        match event:
            case Partial():
                texts = (event.committed, event.volatile)
                if self._as_is(*texts):
                    return event
                committed, volatile = in_sentence(texts[0]), in_sentence(texts[1], inside=bool(texts[0]))
                words = _words(event.words)
                return msgspec.structs.replace(event, committed=committed, volatile=volatile, words=words)
            case Final() | Command():
                if self._as_is(event.text):
                    return event
                return msgspec.structs.replace(event, text=in_sentence(event.text), words=_words(event.words))
            case Rejected(best=best) if best and not self._as_is(best.text):
                best = msgspec.structs.replace(best, text=in_sentence(best.text))
                return msgspec.structs.replace(event, best=best)
            case _:
                return event

    def _as_is(self, *texts: str) -> bool:
        self._cased = self._cased or any(char.islower() for text in texts for char in text)
        return self._cased


def in_sentence(text: str, *, inside: bool = False) -> str:
    """Capitals in sentence case; `inside`: the text does not begin the sentence."""
    return " ".join(small(word, first=not at and not inside) for at, word in enumerate(text.split(" ")))


def small(word: str, *, first: bool = False) -> str:
    """A word of capitals in small letters. Spelled letters, and the English "I", stay capitals."""
    lower = word if len(word) == 1 and word != "A" else word.lower()
    return lower[:1].upper() + lower[1:] if first or lower.startswith("i'") else lower


def _words(words: Iterable[Word]) -> tuple[Word, ...]:
    return tuple(msgspec.structs.replace(word, word=small(word.word, first=not at)) for at, word in enumerate(words))
