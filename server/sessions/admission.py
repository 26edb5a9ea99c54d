"""Who is let in, and what they get: the same for every dialect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from ...streaming.engine.engine import Engine
from ...streaming.overload import Level
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.recognizer import Recognizer
from ..access.access import Access
from ..access.clients import Account, Clients
from ..access.tokens import Client
from ..logs import fields
from ..models.models import Models
from ..refusals import WHY, Refused
from ..settings import ServerSettings
from ..stats import Stats
from .registry import Sessions
from .resume import Kept
from .sharing import Sharing

logger = logging.getLogger("xlsr_live.server")


@dataclass
class Seat:
    """One client's place."""

    recognizer: Recognizer
    settings: ServerSettings
    stats: Stats
    kept: Kept
    sharing: Sharing
    account: Account
    late_refusal: Callable[[], Code | None]  # why a session cannot begin after all
    places: int  # that it takes
    _begun: bool = field(default=False, init=False)
    _bytes: int = field(default=0, init=False)  # of audio

    def begin(self, dialect: str) -> None:
        """The client begins to use its place: count it, once. Raises `ProtocolError` if it cannot be served."""
        if self._begun:
            return
        self._begun = True
        self.stats.sessions[dialect] += 1
        if (code := self.late_refusal()) is not None:
            raise ProtocolError(code, WHY[code])

    async def take(self, size: int, seconds: float) -> None:
        """So many bytes of audio have been heard; wait if the client has had its share of the minute. Raises
        `ProtocolError` when it is more than a session may have.
        """
        self._bytes += size
        if self._bytes > (limit := self.settings.max_session_bytes):
            raise ProtocolError(Code.SESSION_TOO_LONG, f"a session may have {limit} bytes of audio; open another")
        self.stats.audio_s += seconds
        if (wait := self.account.charge(seconds, asyncio.get_running_loop().time())) > 0:
            await asyncio.sleep(wait)


class Admission:
    """Belongs to one event loop. Raises `ConfigError` if the files with tokens cannot be read."""

    def __init__(self, models: Models, settings: ServerSettings, sessions: Sessions) -> None:
        self.models = models
        self.settings = settings
        self.sessions = sessions
        self.access = Access(settings)
        self.stats = Stats()
        self.kept = Kept(settings.resume_grace_s)
        self.sharing = Sharing(settings.max_viewers)
        self._clients = Clients()
        self._uploads = 0  # on their way

    def authenticate(self, connection: HTTPConnection) -> Client:
        """The owner of the connection's token. Raises `Refused`."""
        if (client := self.access.bearer(connection)) is None:
            raise Refused(Code.UNAUTHORIZED)
        return client

    def admit(self, connection: HTTPConnection, *, may_resume: bool = False) -> Client:
        """The client that opens a session, by its token or ticket. Raises `Refused`.

        `may_resume`: only the first message says whether the client resumes a session, which needs no new place. So it
        is admitted to a full server while a session waits for its client; see `seated`.
        """
        if not self.access.origin_allowed(connection.headers):
            raise Refused(Code.FORBIDDEN_ORIGIN)
        if (client := self.access.client(connection)) is None:
            raise Refused(Code.UNAUTHORIZED)
        if (code := self._closed() if may_resume and self.kept.awaited else self.refusal(client)) is not None:
            raise Refused(code)
        return client

    def refusal(self, client: Client) -> Code | None:
        """Why no session of the client can begin now."""
        return self._closed() or self._busy(client, self.models.current.engine, sessions=1)

    def count_refusal(self, connection: HTTPConnection, code: Code) -> None:
        """Count and log a refused connection."""
        self.stats.refused[code] += 1
        client = connection.client.host if connection.client else ""
        path = ascii(connection.scope["path"][:60])
        logger.info("refused", extra=fields(code=str(code), path=path, client=client))

    @contextmanager
    def uploading(self, client: Client) -> Generator[None]:
        """Count a file on its way, for the length of the block: there may be as many as sessions. Raises
        `ProtocolError` for more.
        """
        if self._uploads >= self.sessions.limit:
            raise ProtocolError(Code.SERVER_FULL, WHY[Code.SERVER_FULL])
        self._uploads += 1
        try:
            with self._clients.entered(client):
                yield
        finally:
            self._uploads -= 1

    @contextmanager
    def seated(self, client: Client, refused: Code | None = None) -> Generator[Seat]:
        """Give the client a place, and the present model, for the length of the block. Who is let in although `refused`
        gets no place: it may do what needs none, as only its first message tells, and is told so if it begins.
        """
        places = 0 if refused else 1
        with self._clients.entered(client, places) as account, self.models.lease() as recognizer:
            engine = recognizer.engine

            def late_refusal() -> Code | None:  # a server that stops hears what is on its way
                return _failed(engine) or refused or self._busy(client, engine, sessions=0)

            yield Seat(recognizer, self.settings, self.stats, self.kept, self.sharing, account, late_refusal, places)

    def _closed(self) -> Code | None:
        """Why no session is served now."""
        return Code.SHUTTING_DOWN if self.sessions.draining else _failed(self.models.current.engine)

    def _busy(self, client: Client, engine: Engine, sessions: int) -> Code | None:
        """Why so many more sessions of the client cannot be served now."""
        if self._clients.full(client, sessions):
            return Code.CLIENT_FULL
        if self.sessions.count + sessions > self.sessions.limit:
            return Code.SERVER_FULL
        return Code.OVERLOADED if engine.level >= Level.FINALS else None


def _failed(engine: Engine) -> Code | None:
    return None if engine.alive and engine.healthy else Code.ENCODER_FAILED
