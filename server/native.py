"""The native protocol at `/v1/stream`: messages in, one session's events out as they are."""

from __future__ import annotations

from ..streaming.errors import ConfigError
from ..streaming.events import Error, Event, Partial, Warning, to_json
from .messages import ClientMessage, Code, End, Flush, Hotwords, ProtocolError, Start, parse
from .websocket import WebSocketStream


class NativeStream(WebSocketStream):
    async def converse(self) -> None:
        message = await self._message()
        start = message if isinstance(message, Start) else Start()
        session = self.begin(start.config, start.audio)
        if message is start:
            message = await self._message()
        while not isinstance(message, End):
            match message:
                case Start():
                    raise ProtocolError(Code.UNEXPECTED_MESSAGE, "`start` must be the first message")
                case Flush():
                    await session.flush()
                case Hotwords(phrases=phrases):
                    try:
                        await session.set_hotwords(phrases)
                    except ConfigError as error:  # the stream is as good as before
                        self.told(Warning(code=error.code, message=str(error)))
                case _:
                    await session.send(message)  # waits while the backlog is full, and so in the end does the client
            message = await self._message()

    async def _message(self) -> bytes | ClientMessage:
        data = await self.next()
        return data if isinstance(data, bytes) else parse(data)

    def told(self, event: Event) -> None:
        self.say(to_json(event), event.utterance if isinstance(event, Partial) else None)

    def complaint(self, error: Error) -> str:
        return to_json(error)
