"""A file in one HTTP request, through the same sessions as live audio, so its text is the same: what the dialects that
take files share.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from ...streaming.config import AudioFormat, SessionConfig
from ...streaming.errors import ConfigError, XlsrLiveError
from ...streaming.live import StreamSession
from ...streaming.protocol import events
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.recognizer import Recognizer
from ..access.tokens import Client
from ..logs import fields
from ..refusals import WHY
from ..sessions.admission import Admission, Seat
from ..stats import Tally
from .containers import open_media
from .mapping import writable

logger = logging.getLogger("xlsr_live.server")
_PIECE: Final = 1 << 20
_AT_ONCE: Final = 10  # blocks of audio that a thread decodes at once


class Upload(ABC):
    """One request. It has its place among the sessions as a stream has; a server that stops lets it finish."""

    dialect: ClassVar[str]  # its name in the numbers
    file: UploadFile  # all three are there after `read`
    config: SessionConfig  # but for hotwords
    phrases: list[str]  # to be favoured
    recognizer: Recognizer  # once it is `entered`

    def __init__(self, name: str, request: Request, admission: Admission, client: Client) -> None:
        self.name = name
        self.audio = AudioFormat()  # of the file
        self.audio_s = 0.0
        self._request = request
        self._admission = admission
        self._client = client
        self._settings = admission.settings
        self._task: asyncio.Task[Response] | None = None

    # ── what a dialect is ──

    @abstractmethod
    async def read(self, request: Request) -> None:
        """Take the request. Raises `ProtocolError` and `ConfigError`."""

    @abstractmethod
    def result(self, finals: list[events.Final]) -> Response:
        """The answer."""

    @staticmethod
    @abstractmethod
    def refused(code: str, why: str | None = None) -> Response:
        """The answer to a request that is not served."""

    def stream(self) -> AsyncIterator[str] | None:
        """The answer as events, if they are wanted as they come; `entered` is its part then."""
        return None

    # ── what is the same for all ──

    def shut_down(self) -> None:  # noqa: B027
        """All of its audio is here: it goes on to its end."""

    def drop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def answer(self) -> Response:
        """Never raises: what goes wrong is said in the answer."""
        try:
            with self._admission.uploading(self._client):
                await self.read(self._bounded())
            if (code := self._admission.refusal(self._client)) is not None:  # uploads take their time
                raise ProtocolError(code, WHY[code])
        except (ProtocolError, ConfigError) as error:
            return self.failed(error.code, str(error))
        except TimeoutError:
            return self.failed(Code.IDLE_TIMEOUT, "the upload stood still")
        except ClientDisconnect:
            return self.failed(Code.BAD_MESSAGE, "the client left")
        if (stream := self.stream()) is not None:
            return StreamingResponse(stream, media_type="text/event-stream")
        with self.entered() as seat:
            self._task = asyncio.create_task(self._whole(seat))
            leaving = asyncio.create_task(self._left())
            try:
                await asyncio.wait({self._task, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not self._task.done():
                    self._task.cancel()
                return await self._task
            except asyncio.CancelledError:
                return self.refused(Code.SHUTTING_DOWN)
            finally:
                leaving.cancel()

    def failed(self, code: str, why: str) -> Response:
        """The answer to a request that came to nothing, counted and logged."""
        self._admission.stats.errors[code] += 1
        logger.info("no transcript", extra=fields(code=str(code)))
        return self.refused(code, why)

    @contextmanager
    def entered(self) -> Generator[Seat]:
        with self._admission.seated(self._client) as seat, self._admission.sessions.entered(self):
            seat.stats.sessions[self.dialect] += 1
            logger.info("file", extra=fields(client=self._client.name, dialect=self.dialect))
            self.recognizer = seat.recognizer
            yield seat

    def _bounded(self) -> Request:
        """The request, whose body raises `ProtocolError` when it is too large, and `TimeoutError` when it stalls."""
        limit, taken = self._settings.max_upload_bytes, 0

        async def receive() -> Message:
            nonlocal taken
            async with asyncio.timeout(self._settings.idle_timeout_s):
                message = await self._request.receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise ProtocolError(Code.MESSAGE_TOO_LARGE, f"at most {limit} bytes are taken in one request")
            return message

        return Request(self._request.scope, receive)

    async def _left(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _whole(self, seat: Seat) -> Response:
        try:
            finals = [final async for final in self.finals(seat)]
        except XlsrLiveError as error:
            return self.failed(error.code, str(error))
        return self.result(finals)

    async def finals(self, seat: Seat) -> AsyncGenerator[events.Final]:
        """Raises `XlsrLiveError`: bad audio, a model that fails, too much audio."""
        with tempfile.NamedTemporaryFile() as file:
            while data := await self.file.read(_PIECE):
                file.write(data)
            file.flush()
            self.audio, blocks = await asyncio.to_thread(open_media, Path(file.name))
            hotwords = writable(self.phrases, self.recognizer.encoder.vocabulary)
            session = self.recognizer.session(replace(self.config, hotwords=hotwords), self.audio, name=self.name)
            tally = Tally(seat.stats)
            feeding = asyncio.create_task(_feed(session, self.audio.sample_rate, blocks, seat))
            try:
                async for event in session:
                    if isinstance(event, events.Error) and event.code != Code.AUDIO_TOO_SHORT:
                        raise XlsrLiveError(event.message, code=event.code)
                    tally.event(event)
                    match event:
                        case events.Final():
                            yield event
                        case events.SessionEnded():
                            self.audio_s = event.audio_s
                            logger.info("ended", extra=fields(audio_s=event.audio_s, utterances=event.utterances))
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
        while some := await asyncio.to_thread(lambda: list(islice(blocks, _AT_ONCE))):
            for block in some:
                await session.send(block)
                await seat.take(block.nbytes, len(block) / rate)
    finally:
        await session.end()
