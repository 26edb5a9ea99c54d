"""OpenAI's `POST /v1/audio/transcriptions`: a file in, its text out, in one of six formats or as a stream of events."""

from __future__ import annotations

import math
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ....streaming.captions import cues, subtitles
from ....streaming.config import SessionConfig
from ....streaming.errors import ConfigError, XlsrLiveError
from ....streaming.languages import tag_of
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code, ProtocolError
from ....streaming.recognizer import Recognizer
from ..mapping import with_language
from ..uploads import Upload
from .shapes import log_probabilities, refusal, turn_settings

FORMATS: Final = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
GRANULARITIES: Final = {"word", "segment"}
DAMAGED: Final = "Audio file might be corrupted or unsupported"


class Transcription(Upload):
    """A file in OpenAI's HTTP protocol."""

    dialect = "openai_http"
    task = "transcribe"

    async def read(self, request: Request) -> None:
        """Unknown fields are ignored."""
        try:
            form = await request.form(max_files=2, max_fields=200)
        except (ProtocolError, TimeoutError, ClientDisconnect):
            raise
        except Exception as error:  # of Starlette or its parser: the body is no form
            why = str(getattr(error, "detail", "")) or "expected multipart/form-data"
            raise ProtocolError(Code.BAD_MESSAGE, why) from None
        self._form = form
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ProtocolError(Code.BAD_MESSAGE, "file is required")
        self.file = file
        self._format = str(form.get("response_format") or "json")
        if self._format not in FORMATS:
            raise ProtocolError(Code.BAD_MESSAGE, f"response_format must be one of {', '.join(FORMATS)}")
        self._streams = str(form.get("stream", "")).lower() == "true"
        self._language = str(form.get("language") or "")
        self._languages = [str(each) for each in _list(form, "languages")]  # that may occur
        self._granularities = {str(value) for value in _list(form, "timestamp_granularities")}
        if unknown := self._granularities - GRANULARITIES:
            why = f"timestamp_granularities: {sorted(unknown)[0][:40]!r} is not supported; use word or segment"
            raise ProtocolError(Code.BAD_MESSAGE, why)
        self._logprobs = "logprobs" in _list(form, "include")
        self.phrases = [str(each) for each in _list(form, "keywords")]
        self.config = turn_settings(_strategy(form))

    async def close(self) -> None:
        if hasattr(self, "_form"):
            await self._form.close()

    @staticmethod
    def refused(code: str, why: str | None = None) -> Response:
        return refusal(code, *((DAMAGED, "file") if code == Code.BAD_AUDIO else (why, None)))

    def settings(self, recognizer: Recognizer) -> SessionConfig:
        return with_language(self.config, recognizer, self._language, self._languages)

    def stream(self) -> AsyncIterator[str] | None:
        return self._events() if self._streams else None

    async def _events(self) -> AsyncIterator[str]:
        """One delta per utterance: the deltas joined are the text. With `diarized_json` a segment follows each."""
        diarized = self._format == "diarized_json"
        done: list[events.Final] = []
        try:
            with self.entered() as lease:
                async with aclosing(self.finals(lease)) as finals:
                    async for final in finals:
                        separator = self.separator(final) if done else ""
                        done.append(final)
                        segment = _diarized_segment(len(done), final)
                        yield _event(
                            "transcript.text.delta",
                            delta=separator + final.text,
                            **self._logprobs_of([final]),
                            **({"segment_id": segment["id"]} if diarized else {}),
                        )
                        if diarized:
                            yield _data(segment)
                text = self.joined(done)
                yield _event("transcript.text.done", text=text, **self._logprobs_of(done))
        except XlsrLiveError as problem:
            yield f"data: {bytes(self.failed(problem.code, str(problem)).body).decode()}\n\n"

    def _logprobs_of(self, finals: list[events.Final]) -> dict[str, Any]:
        return {"logprobs": log_probabilities(finals, self.separator)} if self._logprobs else {}

    def result(self, finals: list[events.Final]) -> Response:
        text = self.joined(finals)
        usage = {"type": "duration", "seconds": math.ceil(self.audio_s)}
        shown = self.cues(finals)
        match self._format:
            case "text":
                return PlainTextResponse(text + "\n")
            case "srt":
                return PlainTextResponse("".join(subtitles.srt(number, cue) for number, cue in enumerate(shown, 1)))
            case "vtt":
                tags = {tag_of(final.language) for final in finals}
                header = subtitles.VTT_SIGNATURE + subtitles.vtt_header(tags.pop() if len(tags) == 1 else "")
                return Response(header + "".join(map(subtitles.vtt, shown)), media_type="text/vtt")
            case "verbose_json":
                return JSONResponse(self._verbose(finals, text) | {"usage": usage})
            case "diarized_json":
                parts = [_diarized_segment(number, final) for number, final in enumerate(finals, 1)]
                body = {"task": "transcribe", "duration": self.audio_s, "text": text, "segments": parts, "usage": usage}
                return JSONResponse(body)
            case _:
                return JSONResponse({"text": text, "usage": usage, **self._logprobs_of(finals)})

    def cues(self, finals: list[events.Final]) -> Iterable[cues.Cue]:
        """Cues of the text."""
        return cues.cues(finals)

    def _verbose(self, finals: list[events.Final], text: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "task": self.task,
            "language": self.main_language(finals) or self._language or self.recognizer.info.language or "unknown",
            "duration": self.audio_s,
            "text": text,
        }
        if not self._granularities or "segment" in self._granularities:
            body["segments"] = [_segment(at, final) for at, final in enumerate(finals)]
        if "word" in self._granularities:
            body["words"] = [
                {"word": word.word, "start": word.start, "end": word.end, "confidence": word.confidence}
                for final in finals
                for word in final.words
            ]
        return body


def _diarized_segment(number: int, final: events.Final) -> dict[str, Any]:
    where = {"start": final.start, "end": final.end}
    return {"type": "transcript.text.segment", "id": f"seg_{number:03}", "speaker": "A", **where, "text": final.text}


def _segment(at: int, final: events.Final) -> dict[str, Any]:
    coded = final.text.encode()
    return {
        "id": at,
        "seek": 0,
        "start": final.start,
        "end": final.end,
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(math.log(max(final.confidence, 1e-9)), 4),
        "compression_ratio": round(len(coded) / len(zlib.compress(coded)), 4),
        "no_speech_prob": 0.0,
    }


def _list(form: FormData, name: str) -> list[Any]:
    return [*form.getlist(f"{name}[]"), *form.getlist(name)]


def _strategy(form: FormData) -> Any:
    """`chunking_strategy`. Clients send an object as JSON, or each of its fields as a form field."""
    given = form.get("chunking_strategy")
    if given in (None, "", "auto"):
        flat = {
            name[18:-1]: value for name, value in form.items() if name.startswith("chunking_strategy[") and value != ""
        }
        if not flat:
            return "auto"
        return {name: value if name == "type" else _json(value) for name, value in flat.items()}
    return _json(given)


def _json(value: object) -> Any:
    try:
        return msgspec.json.decode(str(value))
    except (msgspec.DecodeError, RecursionError):
        raise ConfigError("chunking_strategy must be auto or an object") from None


def _event(kind: str, **fields: Any) -> str:
    return _data({"type": kind, **fields})


def _data(message: dict[str, Any]) -> str:
    return f"data: {msgspec.json.encode(message).decode()}\n\n"
