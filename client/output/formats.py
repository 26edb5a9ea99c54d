"""Output formats: text, JSON lines, a JSON document, SRT, WebVTT. Each flushes after every line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final as Constant
from typing import Self, TextIO

import msgspec

from ...streaming.captions.cues import Cue, CueMaker
from ...streaming.captions.subtitles import VTT_SIGNATURE, short_clock, srt, vtt, vtt_header
from ...streaming.captions.translated import TranslatedCues
from ...streaming.errors import XlsrLiveError
from ...streaming.languages import tag_of
from ...streaming.protocol.events import (
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    Translation,
    Warning,
    Word,
    to_json,
)


class Output:
    """Writes the events of recordings to `out`. A context manager.

    Call `begin` with the name of each recording, `show` with each of its events, and `close` after the last. With
    `several`, the output names the recording. A `quiet` output leaves warnings to another output.
    """

    quiet = False
    broken = False  # a write has failed

    def __init__(self, out: TextIO, *, several: bool = False) -> None:
        self._out = out
        self._several = several
        self._source = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def begin(self, source: str) -> None:
        self._source = source

    def show(self, event: Event) -> None:
        match event:
            case Final():
                self.final(event)
            case Translation():
                self.translation(event)
            case Warning() if not self.quiet:  # the caller reports errors
                print(f"{event.code}: {event.message}", file=sys.stderr, flush=True)
            case _:
                pass

    def head_start(self, seconds: float) -> None:
        """The first sample is so much older than the session that comes. Matters to outputs that time the audio."""

    def final(self, final: Final) -> None:
        """Write one final."""

    def translation(self, translation: Translation) -> None:
        """Write one translation."""

    def note(self, text: str) -> None:
        """Show a message of the program. Only a display and plain text do this."""

    def level(self, dbfs: float) -> None:
        """Show the loudness of the input. Only a display does this."""

    def hint(self, text: str) -> None:
        """Show a line that stays until the next one. Only a display does this."""

    @property
    def amount(self) -> str:
        """The number of written cues, such as "12 cues"; empty for formats without cues."""
        return ""

    def close(self) -> None:
        """Write the end of the output."""

    def _write(self, text: str) -> None:
        """Write and flush. Raises `XlsrLiveError` at the first failure, then ignores further text."""
        if self.broken:
            return
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.broken = True
            name = "standard output" if self._out is sys.stdout else getattr(self._out, "name", "the output")
            raise XlsrLiveError(f"cannot write {name}: {error.strerror or error}") from error


class Text(Output):
    """One line for each final."""

    def final(self, final: Final) -> None:
        self._write(f"{self._source}: {final.text}\n" if self._several else f"{final.text}\n")

    def translation(self, translation: Translation) -> None:
        self._write(f"{self._source}: " * self._several + f"[{translation.language}] {translation.text}\n")


class Plain(Output):
    """One line for each final, with the time of its first word."""

    def final(self, final: Final) -> None:
        begun = short_clock(final.words[0].start if final.words else final.start)
        self._write(f"{self._source}: " * self._several + f"{begun}  {final.text}\n")

    def translation(self, translation: Translation) -> None:
        begun = short_clock(translation.start)
        self._write(f"{self._source}: " * self._several + f"{begun}  [{translation.language}] {translation.text}\n")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Together(Output):
    """Passes events to several outputs."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        super().__init__(sys.stdout)
        self._outputs = outputs

    def begin(self, source: str) -> None:
        for output in self._outputs:
            output.begin(source)

    def show(self, event: Event) -> None:
        for output in self._outputs:
            output.show(event)

    def head_start(self, seconds: float) -> None:
        for output in self._outputs:
            output.head_start(seconds)

    def note(self, text: str) -> None:
        for output in self._outputs:
            output.note(text)

    def level(self, dbfs: float) -> None:
        for output in self._outputs:
            output.level(dbfs)

    def hint(self, text: str) -> None:
        for output in self._outputs:
            output.hint(text)


class JsonLines(Output):
    """Every event as on the wire, one per line; with several recordings each line has a `file`."""

    def show(self, event: Event) -> None:
        line = to_json(event)
        if self._several:
            line = f'{line[:-1]},"file":{msgspec.json.encode(self._source).decode()}}}'
        self._write(line + "\n")


class Document(msgspec.Struct, kw_only=True):
    """`--format json` for one recording."""

    file: str
    model: str
    duration: float = 0.0  # seconds of audio
    text: str = ""  # of all finals
    finals: list[Final] = []
    words: list[Word] = []  # of all finals
    translations: list[Translation] = []


class Json(Output):
    """One document for one recording, an array for several; written at the end."""

    def __init__(self, out: TextIO, *, several: bool = False) -> None:
        super().__init__(out, several=several)
        self._documents: list[Document] = []

    def show(self, event: Event) -> None:
        match event:
            case SessionStarted():
                self._documents.append(Document(file=self._source, model=event.model))
            case SessionEnded():
                self._documents[-1].duration = event.audio_s
            case _:
                super().show(event)

    def final(self, final: Final) -> None:
        document = self._documents[-1]
        document.finals.append(final)
        document.words.extend(final.words)
        document.text = f"{document.text} {final.text}".lstrip()

    def translation(self, translation: Translation) -> None:
        self._documents[-1].translations.append(translation)

    def close(self) -> None:
        if self._several or self._documents:
            content = self._documents if self._several else self._documents[0]
            self._write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")


class Cued(Output):
    """Base of outputs of cues: of the finals, or with a `TranslatedCues` of their translations."""

    language = ""  # BCP 47 tag of the next cue's text; empty if unknown

    def __init__(self, out: TextIO, *, several: bool = False, maker: CueMaker | TranslatedCues | None = None) -> None:
        super().__init__(out, several=several)
        self._maker = maker or CueMaker()
        self._cues = 0

    def show(self, event: Event) -> None:
        super().show(event)
        match event:
            case Translation() if isinstance(self._maker, TranslatedCues):
                self.language = event.language
            case Partial() | Final() if isinstance(self._maker, CueMaker):
                self.language = tag_of(event.language)
            case _:
                pass
        for cue in self._maker.receive(event):
            self.add(cue)

    def add(self, cue: Cue) -> None:
        """Count and write one cue."""
        self._cues += 1
        self.cue(cue)

    @property
    def amount(self) -> str:
        return f"{self._cues} {'cue' if self._cues == 1 else 'cues'}"

    def cue(self, cue: Cue) -> None:
        """Write one cue."""


class Srt(Cued):
    """SubRip: cues with running numbers and decimal commas."""

    def cue(self, cue: Cue) -> None:
        self._write(srt(self._cues, cue))


class Vtt(Cued):
    """WebVTT (W3C). The header names the language of the first cue, so the first cue or the end completes it."""

    _of_header: str | None = ""  # language in the header; None between the signature and the rest of the header

    def begin(self, source: str) -> None:
        super().begin(source)
        self._write(VTT_SIGNATURE)
        self._of_header = None

    def cue(self, cue: Cue) -> None:
        header = ""
        if self._of_header is None:
            header, self._of_header = vtt_header(self.language), self.language
        self._write(header + vtt(cue, self.language if self.language != self._of_header else ""))

    def close(self) -> None:
        if self._of_header is None:
            self._of_header = ""
            self._write(vtt_header())


SUBTITLES: Constant = ("srt", "vtt")
FORMATS: Constant[dict[str, Callable[..., Output]]] = {
    "text": Text,
    "plain": Plain,
    "jsonl": JsonLines,
    "json": Json,
    "srt": Srt,
    "vtt": Vtt,
}
