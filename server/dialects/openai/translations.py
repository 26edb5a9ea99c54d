"""OpenAI's `POST /v1/audio/translations`: a file in, its text in English out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from msgspec.structs import replace
from starlette.requests import Request

from ....streaming.captions.cues import Cue
from ....streaming.captions.translated import TranslatedCues
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code, ProtocolError
from ....streaming.translation.routes import same_language, target_languages
from ...sessions.admission import Lease
from .transcriptions import Transcription

ENGLISH = "en"
NOT_HERE = "this server does not translate into English; /v1/audio/transcriptions transcribes"


class EnglishTranslation(Transcription):
    """As a transcription, with the translations in place of the finals; English speech is transcribed."""

    task = "translate"

    async def read(self, request: Request) -> None:
        await super().read(request)
        self._cues: list[Cue] = []
        self._translates = False
        recognizer = self._admission.models.current
        config = self.settings(recognizer)
        codes = recognizer.languages.codes(config.language, config.allowed_languages)
        spoken = [code or recognizer.spoken_language for code in codes]
        foreign = [each for each in spoken if each is None or not same_language(each, ENGLISH)]
        if not foreign:
            return
        translators = () if recognizer.translation is None else recognizer.translation.translators
        if any(ENGLISH not in target_languages(translators, each) for each in foreign):
            raise ProtocolError(Code.NOT_FOUND, NOT_HERE)
        if self._streams:
            raise ProtocolError(Code.BAD_MESSAGE, "translations have no streams; leave `stream` out")
        self._translates = True
        self.config = replace(self.config, translate_to=(ENGLISH,))

    async def finals(self, lease: Lease) -> AsyncGenerator[events.Final]:
        """The finals with their text in English, without words. Raises `XlsrLiveError`, also without a translation."""
        maker, originals = TranslatedCues(), dict[int, events.Final]()
        async with aclosing(self.events(lease)) as received:
            async for event in received:
                self._cues += maker.receive(event)
                match event:
                    case events.Final() if self._translates:
                        originals[event.utterance] = event
                    case events.Final():
                        yield event
                    case events.Translation():
                        yield replace(originals.pop(event.utterance), text=event.text, words=())
                    case events.Warning(code="not_translated"):
                        raise ProtocolError(Code.INTERNAL_ERROR, event.message)
                    case _:
                        pass

    def cues(self, finals: list[events.Final]) -> Iterable[Cue]:
        return self._cues if self._translates else super().cues(finals)
