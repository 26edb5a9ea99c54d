"""OpenAI's `POST /v1/audio/transcriptions`: a file in, its text out, in one of six shapes or as a stream of events.

A file goes through the same sessions as live audio, so its text is the same.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Message

from ..streaming import cues, events, subtitles
from ..streaming.errors import AudioError, ConfigError, XlsrLiveError
from ..streaming.live import StreamSession
from ..streaming.recognizer import Recognizer
from .admission import Admission, Seat
from .containers import open_media
from .mapping import writable
from .messages import Code, ProtocolError
from .openai_shapes import log_probabilities, refusal, turns
from .refusals import WHY
from .stats import Tally
from .tokens import Client

UPLOADS: Final = "/v1/audio/transcriptions"
FORMATS: Final = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
_PIECE: Final = 1 << 20


class Transcription:
    """One request. It has its place among the sessions as a stream has; a server that stops lets it finish."""

    def __init__(self, name: str, request: Request, admission: Admission, client: Client) -> None:
        self.name = name
        self._request = request
        self._admission = admission
        self._client = client
        self._settings = admission.settings
        self._task: asyncio.Task[Response] | None = None
        self._audio_s = 0.0

    def shut_down(self) -> None:
        """All of its audio is here: it goes on to its end."""

    def drop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def answer(self) -> Response:
        """Never raises: what goes wrong is said in the answer."""
        try:
            form = await self._form()
            asked = _Asked(form, self._admission.models.current)
            if (code := self._admission.refusal(self._client)) is not None:  # uploads take their time
                raise ProtocolError(code, WHY[code])
        except (ProtocolError, ConfigError, TimeoutError) as error:
            return refusal(getattr(error, "code", Code.IDLE_TIMEOUT), str(error) or "the upload stood still")
        if asked.stream:
            return StreamingResponse(self._entered_stream(form), media_type="text/event-stream")
        with self._entered() as seat:
            self._task = asyncio.create_task(self._whole(asked, seat))
            leaving = asyncio.create_task(self._left())
            try:
                await asyncio.wait({self._task, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not self._task.done():
                    self._task.cancel()
                return await self._task
            except asyncio.CancelledError:
                return refusal(Code.SHUTTING_DOWN)
            finally:
                leaving.cancel()

    @contextmanager
    def _entered(self) -> Generator[Seat]:
        with self._admission.seated(self._client) as seat, self._admission.sessions.entered(self):
            seat.stats.sessions["openai_http"] += 1
            yield seat

    async def _form(self) -> FormData:
        """Raises `ProtocolError` for a file that is too large or no form, `TimeoutError` for a client that stalls."""
        limit, taken = self._settings.max_upload_bytes, 0
        receive = self._request.receive

        async def bounded() -> Message:
            nonlocal taken
            async with asyncio.timeout(self._settings.idle_timeout_s):
                message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise ProtocolError(Code.MESSAGE_TOO_LARGE, f"at most {limit} bytes are taken in one request")
            return message

        request = Request(self._request.scope, bounded)
        try:
            return await request.form(max_files=2, max_fields=200)
        except (ProtocolError, TimeoutError):
            raise
        except ClientDisconnect:
            raise ProtocolError(Code.BAD_MESSAGE, "the client left") from None
        except Exception as error:  # Starlette's own for a form that is none
            text = str(getattr(error, "detail", "")) or "expected multipart/form-data"
            raise ProtocolError(Code.BAD_MESSAGE, text) from None

    async def _left(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _whole(self, asked: _Asked, seat: Seat) -> Response:
        try:
            finals = [final async for final in self._finals(asked, seat)]
        except AudioError:
            return refusal(Code.BAD_AUDIO, "Audio file might be corrupted or unsupported", "file")
        return asked.response(finals, self._audio_s)

    async def _entered_stream(self, form: FormData) -> AsyncIterator[str]:
        """A delta is the text of an utterance, so that deltas joined are the text."""
        with self._entered() as seat:
            asked = _Asked(form, seat.recognizer)  # the model may have been changed since it was looked at first
            said: list[events.Final] = []
            try:
                async with aclosing(self._finals(asked, seat)) as finals:
                    async for final in finals:
                        separator = asked.separator if said else ""
                        said.append(final)
                        yield _event("transcript.text.delta", delta=separator + final.text, **asked.sure([final]))
            except AudioError:
                yield _data({"error": {"message": "Audio file might be corrupted or unsupported", "code": "bad_audio"}})
                return
            text = asked.separator.join(final.text for final in said)
            yield _event("transcript.text.done", text=text, **asked.sure(said))

    async def _finals(self, asked: _Asked, seat: Seat) -> AsyncGenerator[events.Final]:
        """Raises `AudioError`."""
        with tempfile.NamedTemporaryFile() as file:
            while data := await asked.file.read(_PIECE):
                file.write(data)
            file.flush()
            audio, blocks = open_media(Path(file.name))
            session = seat.recognizer.session(asked.config, audio, name=self.name)
            tally = Tally(seat.stats)
            feeding = asyncio.create_task(_feed(session, audio.sample_rate, blocks, seat))
            try:
                async for event in session:
                    tally.event(event)
                    match event:
                        case events.Final():
                            yield event
                        case events.SessionEnded():
                            self._audio_s = event.audio_s
                        case events.Error() if event.code != Code.AUDIO_TOO_SHORT:
                            raise AudioError(event.message)
                        case _:
                            pass
                await feeding
            finally:
                feeding.cancel()
                await session.aclose()
                seat.stats.dropped += session.dropped
                with suppress(asyncio.CancelledError, XlsrLiveError):
                    await feeding


async def _feed(session: StreamSession, rate: int, blocks: Iterator[NDArray[np.float32]], seat: Seat) -> None:
    try:
        for block in blocks:
            await session.send(block)
            await seat.take(block.nbytes, len(block) / rate)
    finally:
        await session.end()


class _Asked:
    """The form's fields; those that are not known are ignored. Raises `ProtocolError` and `ConfigError`."""

    def __init__(self, form: FormData, recognizer: Recognizer) -> None:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ProtocolError(Code.BAD_MESSAGE, "file is required")
        self.file = file
        self.format = str(form.get("response_format") or "json")
        if self.format not in FORMATS:
            raise ProtocolError(Code.BAD_MESSAGE, f"response_format must be one of {', '.join(FORMATS)}")
        self.stream = str(form.get("stream", "")).lower() == "true"
        self.language = str(form.get("language") or recognizer.info.language or "unknown")
        self.wants = {str(value) for value in _list(form, "timestamp_granularities")}
        self._logprobs = "logprobs" in _list(form, "include")
        vocabulary = recognizer.encoder.vocabulary
        self.separator = vocabulary.separator
        hotwords = writable(map(str, _list(form, "keywords")), vocabulary)
        self.config = msgspec.structs.replace(turns(_strategy(form)), hotwords=hotwords)

    def sure(self, finals: list[events.Final]) -> dict[str, Any]:
        return {"logprobs": log_probabilities(finals, self.separator)} if self._logprobs else {}

    def response(self, finals: list[events.Final], seconds: float) -> Response:
        text = self.separator.join(final.text for final in finals)
        usage = {"type": "duration", "seconds": math.ceil(seconds)}
        shown = cues.cues(finals)
        match self.format:
            case "text":
                return PlainTextResponse(text + "\n")
            case "srt":
                return PlainTextResponse("".join(subtitles.srt(number, cue) for number, cue in enumerate(shown, 1)))
            case "vtt":
                return Response(subtitles.VTT_HEADER + "".join(map(subtitles.vtt, shown)), media_type="text/vtt")
            case "verbose_json":
                return JSONResponse(self._verbose(finals, text, seconds) | {"usage": usage})
            case "diarized_json":
                parts = [
                    {"type": "transcript.text.segment", "id": f"seg_{at:03}", "speaker": "A"}
                    | {"start": final.start, "end": final.end, "text": final.text}
                    for at, final in enumerate(finals, 1)
                ]
                body = {"task": "transcribe", "duration": seconds, "text": text, "segments": parts, "usage": usage}
                return JSONResponse(body)
            case _:
                return JSONResponse({"text": text, "usage": usage, **self.sure(finals)})

    def _verbose(self, finals: list[events.Final], text: str, seconds: float) -> dict[str, Any]:
        body: dict[str, Any] = {"task": "transcribe", "language": self.language, "duration": seconds, "text": text}
        if not self.wants or "segment" in self.wants:
            body["segments"] = [_segment(at, final) for at, final in enumerate(finals)]
        if "word" in self.wants:
            body["words"] = [
                {"word": word.word, "start": word.start, "end": word.end, "confidence": word.confidence}
                for final in finals
                for word in final.words
            ]
        return body


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
    """`chunking_strategy`; the client writes an object as JSON, or as one field for each of its own."""
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
