"""Subtitles of one language beside those of the original: `talk.srt` and, of a translation, `talk.es.srt`; of what was
spoken in one of several languages, `talk.deu.srt`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from ...streaming.captions.translated import TranslatedCues
from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded, Translation
from .formats import Cued, Output


class LanguageFiles(Output):
    """One file for each language, created by `open_file` with the first text in it."""

    quiet = True

    def __init__(self, path: Path, open_file: Callable[[Path], AbstractContextManager[Output]]) -> None:
        super().__init__(sys.stderr)
        self._path, self._open_file = path, open_file
        self._outputs: dict[str, Cued] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def _file(self, language: str) -> Cued:
        if language not in self._outputs:
            path = self._path.with_suffix(f".{language}{self._path.suffix}")
            output = self._stack.enter_context(self._open_file(path))
            assert isinstance(output, Cued)
            output.begin(str(path))
            self._outputs[language] = output
        return self._outputs[language]


class TranslatedFiles(LanguageFiles):
    """The translations into each language, by its BCP 47 tag."""

    def __init__(self, path: Path, open_file: Callable[[Path], AbstractContextManager[Output]]) -> None:
        super().__init__(path, open_file)
        self._cues = TranslatedCues()

    def show(self, event: Event) -> None:
        match event:
            case Translation():
                output = self._file(event.language)
                output.language = event.language
                for cue in self._cues.receive(event):
                    output.add(cue)
            case Final() | Partial() | SpeechEnded():
                self._cues.receive(event)
            case _:
                pass


class SpokenFiles(LanguageFiles):
    """The utterances in each language, by the checkpoint's code; nothing of a checkpoint with one language."""

    def show(self, event: Event) -> None:
        if isinstance(event, Final) and event.language:
            self._file(event.language).show(event)
