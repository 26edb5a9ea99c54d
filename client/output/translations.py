"""Subtitles of translations beside those of the original: `talk.srt` and `talk.es.srt`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from ...streaming.captions.translated import TranslatedCues
from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded, Translation
from ..console import report_saved, writing
from .formats import FORMATS, Cued, Output
from .names import unused


class TranslatedFiles(Output):
    """One file for each language of the translations, made with the first of them."""

    quiet = True

    def __init__(self, path: Path, form: str, overwrite: bool = False) -> None:
        super().__init__(sys.stderr)
        self._path, self._form, self._overwrite = path, form, overwrite
        self._cues = TranslatedCues()
        self._outputs: dict[str, tuple[Path, Cued]] = {}
        self._stack = ExitStack()

    def show(self, event: Event) -> None:
        match event:
            case Translation():
                _, output = self._outputs.get(event.language) or self._open(event.language)
                for cue in self._cues.receive(event):
                    output.add(cue)
            case Final() | Partial() | SpeechEnded():
                self._cues.receive(event)
            case _:
                pass

    def close(self) -> None:
        self._stack.close()
        for path, output in self._outputs.values():
            report_saved(path, output.amount)

    def _open(self, language: str) -> tuple[Path, Cued]:
        path = unused(self._path.with_suffix(f".{language}{self._path.suffix}"), overwrite=self._overwrite)
        with writing(path):
            file = self._stack.enter_context(path.open("w", encoding="utf-8", errors="replace", newline="\n"))
        output = FORMATS[self._form](file)
        assert isinstance(output, Cued)
        self._stack.enter_context(output).begin(str(path))
        output.language = language
        self._outputs[language] = path, output
        return path, output
