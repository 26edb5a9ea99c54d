"""The base of all dialects that take a file in one HTTP request. The file goes through the same sessions as live
audio, so its text is the same.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
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
from ...streaming.languages import bcp47
from ...streaming.live import StreamSession
from ...streaming.protocol import events
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.recognizer import Recognizer
from ..access.tokens import Client
from ..logs import fields
from ..refusals import WHY
from ..sessions.active import send_charged
from ..sessions.admission import Admission, Lease
from ..stats import Tally
from .containers import open_media
from .mapping import hotwords

Blocks = Iterator[NDArray[np.float32]] | Iterator[bytes]

logger = logging.getLogger("xlsr_live.server")
_COPY_BYTES: Final = 1 << 20
_HARMLESS: Final = (Code.AUDIO_TOO_SHORT, Code.TRUNCATED_SAMPLE)
_BLOCKS_AT_ONCE: Final = 10  # decoded in one call of a thread


class Upload(ABC):
    """One request. It uses a slot as a stream does; a server that stops lets it finish."""

    dialect: ClassVar[str]  # its name in the metrics
    file: UploadFile  # this and the next two are set by `read`
    config: SessionConfig  # without hotwords
    phrases: list[str]  # for the hotwords
    recognizer: Recognizer  # set while `entered`

    def __init__(self, name: str, request: Request, admission: Admission, client: Client) -> None:
        self.name = name
        self.audio = AudioFormat()  # of the file
        self.audio_s = 0.0
        self._request = request
        self._admission = admission
        self._client = client
        self._settings = admission.settings
        self._task: asyncio.Task[Response] | None = None

    # ── what a dialect defines ──

    @abstractmethod
    async def read(self, request: Request) -> None:
        """Read the request. Raises `ProtocolError` and `ConfigError`."""

    @abstractmethod
    def result(self, finals: list[events.Final]) -> Response:
        """The response."""

    @staticmethod
    @abstractmethod
    def refused(code: str, why: str | None = None) -> Response:
        """The response to a request that is refused."""

    async def close(self) -> None:
        """Delete what was uploaded."""
        if hasattr(self, "file"):
            await self.file.close()

    def settings(self, recognizer: Recognizer) -> SessionConfig:
        """`config` with the language that the request names. Raises `ConfigError`."""
        return self.config

    def open_file(self, path: Path) -> tuple[AudioFormat, Blocks]:
        """The format and the audio of the upload, in blocks. Runs in a thread. Raises `AudioError`."""
        return open_media(path)

    def stream(self) -> AsyncIterator[str] | None:
        """The response as a stream of events, if the client asks for one. It must call `entered` itself."""
        return None

    # ── the same for all ──

    def joined(self, finals: Sequence[events.Final]) -> str:
        """Their text, with the word separator of each one's language before it."""
        return "".join(self.separator(final) * bool(at) + final.text for at, final in enumerate(finals))

    def separator(self, final: events.Final) -> str:
        return self.recognizer.languages.vocabulary(final.language or None).separator

    @staticmethod
    def main_language(finals: Sequence[events.Final]) -> str | None:
        """The one with the most speech, as a BCP 47 tag; None if the model does not have several."""
        lengths: Counter[str] = Counter()
        for final in finals:
            if (language := tag(final)) is not None:
                lengths[language] += round(1000 * (final.end - final.start))
        return max(lengths, key=lambda language: lengths[language], default=None)

    def leave(self, within_s: float) -> bool:
        return False

    def shut_down(self) -> None:  # noqa: B027
        """All of its audio has been received: it runs to its end."""

    def drop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def answer(self) -> Response:
        """Handle the request. Never raises: errors become responses."""
        try:
            with self._admission.uploading(self._client):
                await self.read(self._bounded())
            # Check again: the server may have filled up during the upload.
            if (code := self._admission.refusal(self._client)) is not None:
                raise ProtocolError(code, WHY[code])
        except (ProtocolError, ConfigError) as error:
            return await self._not_received(error.code, str(error))
        except TimeoutError:
            return await self._not_received(Code.IDLE_TIMEOUT, "the upload stalled")
        except ClientDisconnect:
            return await self._not_received(Code.BAD_MESSAGE, "the client left")
        if (stream := self.stream()) is not None:
            return StreamingResponse(stream, media_type="text/event-stream")
        try:
            with self.entered() as lease:
                return await self._finished(lease)
        except ProtocolError as error:  # another front has just taken the last slot
            return await self._not_received(error.code, str(error))

    async def _finished(self, lease: Lease) -> Response:
        """The response, unless the client leaves or the server stops before."""
        self._task = asyncio.create_task(self._whole(lease))
        disconnect = asyncio.create_task(self._disconnected())
        try:
            await asyncio.wait({self._task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if not self._task.done():
                self._task.cancel()
            return await self._task
        except asyncio.CancelledError:
            return self.refused(Code.SHUTTING_DOWN)
        finally:
            disconnect.cancel()
            await self.close()

    async def _not_received(self, code: str, why: str) -> Response:
        await self.close()
        return self.failed(code, why)

    def failed(self, code: str, why: str) -> Response:
        """The response to a request that failed, counted and logged."""
        self._admission.stats.errors[code] += 1
        logger.info("no transcript", extra=fields(code=str(code)))
        return self.refused(code, why)

    @contextmanager
    def entered(self) -> Generator[Lease]:
        """Lease a slot for the length of the block. Raises `ProtocolError` if there is none."""
        with self._admission.lease(self._client) as lease, lease.registered(self):
            lease.start(self.dialect)
            logger.info("file", extra=fields(client=self._client.name, dialect=self.dialect))
            self.recognizer = lease.recognizer
            yield lease

    def _bounded(self) -> Request:
        """The request, whose body raises `ProtocolError` when it is too large, and `TimeoutError` when it stalls."""
        limit, taken = self._settings.max_upload_bytes, 0

        async def receive() -> Message:
            nonlocal taken
            async with asyncio.timeout(self._settings.idle_timeout_s):
                message = await self._request.receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise ProtocolError(Code.MESSAGE_TOO_LARGE, f"a request may have {limit} bytes at most")
            return message

        return Request(self._request.scope, receive)

    async def _disconnected(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _whole(self, lease: Lease) -> Response:
        try:
            finals = [final async for final in self.finals(lease)]
        except XlsrLiveError as error:
            return self.failed(error.code, str(error))
        return self.result(finals)

    async def finals(self, lease: Lease) -> AsyncGenerator[events.Final]:
        """As `events`."""
        async with aclosing(self.events(lease)) as all_events:
            async for event in all_events:
                if isinstance(event, events.Final):
                    yield event

    async def events(self, lease: Lease) -> AsyncGenerator[events.Event]:
        """Raises `XlsrLiveError`: bad audio, a model that fails, too much audio."""
        with tempfile.NamedTemporaryFile() as file:
            while data := await self.file.read(_COPY_BYTES):
                file.write(data)
            file.flush()
            await self.close()
            self.audio, blocks = await asyncio.to_thread(self.open_file, Path(file.name))
            config = self.settings(self.recognizer)
            phrases = await asyncio.to_thread(hotwords, self.phrases, self.recognizer, config)
            config = replace(config, hotwords=phrases)
            await self.recognizer.prepare(config)
            session = self.recognizer.session(config, self.audio, name=self.name, complete_translations=True)
            tally = Tally(lease.stats)
            feeding = asyncio.create_task(_feed(session, self.audio, blocks, lease))
            try:
                async for event in session:
                    if isinstance(event, events.Error) and event.code not in _HARMLESS:
                        raise XlsrLiveError(event.message, code=event.code)
                    tally.event(event)
                    if isinstance(event, events.SessionEnded):
                        self.audio_s = event.audio_s
                        logger.info("ended", extra=fields(audio_s=event.audio_s, utterances=event.utterances))
                    yield event
                await feeding
            finally:
                feeding.cancel()
                await session.aclose()
                lease.stats.dropped += session.dropped
                with suppress(asyncio.CancelledError, XlsrLiveError):
                    await feeding


def tag(final: events.Final) -> str | None:
    """The language of a final as a BCP 47 tag; None if the model does not have several."""
    return bcp47(final.language) if final.language else None


async def _feed(session: StreamSession, audio: AudioFormat, blocks: Blocks, lease: Lease) -> None:
    try:
        while some := await asyncio.to_thread(lambda: list(islice(blocks, _BLOCKS_AT_ONCE))):
            for block in some:
                await send_charged(session, block, audio, lease)
    finally:
        await session.end()
