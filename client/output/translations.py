"""Subtitles of translations beside those of the original: `talk.srt` and `talk.es.srt`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from ...streaming.captions.translated import TranslatedCues
from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded, Translation
from .formats import Cued, Output


class TranslatedFiles(Output):
    """One file for each language, created by `open_file` with the first translation into it."""

    quiet = True

    def __init__(self, path: Path, open_file: Callable[[Path], AbstractContextManager[Output]]) -> None:
        super().__init__(sys.stderr)
        self._path, self._open_file = path, open_file
        self._cues = TranslatedCues()
        self._outputs: dict[str, Cued] = {}
        self._stack = ExitStack()

    def show(self, event: Event) -> None:
        match event:
            case Translation():
                output = self._outputs.get(event.language) or self._open(event.language)
                for cue in self._cues.receive(event):
                    output.add(cue)
            case Final() | Partial() | SpeechEnded():
                self._cues.receive(event)
            case _:
                pass

    def close(self) -> None:
        self._stack.close()

    def _open(self, language: str) -> Cued:
        path = self._path.with_suffix(f".{language}{self._path.suffix}")
        output = self._stack.enter_context(self._open_file(path))
        assert isinstance(output, Cued)
        output.begin(str(path))
        output.language = language
        self._outputs[language] = output
        return output
