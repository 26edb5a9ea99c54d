"""Admits clients: checks and session resources that all dialects share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import HTTPConnection

from ...streaming.engine.service import EngineService
from ...streaming.overload import Level
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.recognizer import Recognizer
from ..access.access import Access
from ..access.clients import Account, Clients
from ..access.ledger import Kind
from ..access.tokens import Client
from ..logs import fields
from ..models.models import Models
from ..net.board import Posted
from ..refusals import WHY, Refused
from ..settings import ServerSettings
from ..stats import Stats
from .fronts import Fronts
from .registry import Drainable, SessionRegistry
from .resume_store import ResumeStore
from .sharing import SharedSessions

logger = logging.getLogger("xlsr_live.server")
POST_S: Final = 0.2
RESUMES: Final = "resume"  # in the query: the client says that its first message resumes a session


@dataclass
class Lease:
    """A session slot for one client, the model that it uses, and the server's shared parts."""

    recognizer: Recognizer
    settings: ServerSettings
    stats: Stats
    resume_store: ResumeStore
    sharing: SharedSessions
    account: Account
    slots: int  # 0 for a refused client
    _registry: SessionRegistry
    _refusal: Callable[[], Code | None]  # why a session cannot start now
    _started: bool = field(default=False, init=False)
    _bytes: int = field(default=0, init=False)  # of audio

    def start(self, dialect: str) -> None:
        """Count the session, once. Call before its first use. Raises `ProtocolError` if the server cannot serve it."""
        if self._started:
            return
        self._started = True
        self.stats.sessions[dialect] += 1
        if (code := self._refusal()) is not None:
            raise ProtocolError(code, WHY[code])

    async def charge(self, seconds: float) -> None:
        """Charge the client for audio. Call before its use: waits while the client has used up its allowance."""
        clock = asyncio.get_running_loop().time
        while (wait := self.account.charge(0.0, clock())) > 0:  # noqa: ASYNC110  others may be faster
            await asyncio.sleep(wait)
        self.account.charge(seconds, clock())

    def count(self, size: int, seconds: float) -> None:
        """Count accepted audio, `size` in bytes. Raises `ProtocolError` if the session exceeds its limit."""
        self._bytes += size
        if self._bytes > (limit := self.settings.max_session_bytes):
            raise ProtocolError(Code.SESSION_TOO_LONG, f"the limit is {limit} bytes of audio; open another session")
        self.stats.audio_s += seconds

    @contextmanager
    def registered(self, stream: Drainable) -> Generator[None]:
        """Register `stream` as open, with its slot, for the length of the block."""
        with self._registry.registered(stream, self.slots):
            yield


class Admission:
    """Belongs to one event loop. `fronts`: of one of several fronts, whose limits hold for all of them together.

    Raises `ConfigError` if the files with tokens cannot be read.
    """

    def __init__(
        self, models: Models, settings: ServerSettings, sessions: SessionRegistry, fronts: Fronts | None = None
    ) -> None:
        self.models = models
        self.settings = settings
        self.sessions = sessions
        self.fronts = fronts
        self._ledger = None if fronts is None else fronts.ledger
        self.access = Access(settings, self._ledger)
        self.stats = Stats()
        self.resume_store = ResumeStore(settings.resume_grace_s, fronts)
        self.sharing = SharedSessions(settings.max_viewers, fronts)
        self._clients = Clients(ledger=self._ledger)
        self._uploads = 0  # in progress

    def authenticate(self, connection: HTTPConnection) -> Client:
        """The owner of the connection's token. Raises `Refused`."""
        if (client := self.access.bearer(connection)) is None:
            raise Refused(Code.UNAUTHORIZED)
        return client

    def admit(self, connection: HTTPConnection, *, may_resume: bool = False) -> Client:
        """The client that opens a session, by its token or ticket. Raises `Refused`.

        `may_resume`: the client may resume a session, which needs no new slot, and its first message decides that. So a
        full server admits it if its address says so, or while any session waits for its client; see `lease`.
        """
        if not self.access.origin_allowed(connection.headers):
            raise Refused(Code.FORBIDDEN_ORIGIN)
        if (client := self.access.client(connection)) is None:
            raise Refused(Code.UNAUTHORIZED)
        resumes = may_resume and (RESUMES in connection.query_params or self.resume_store.any_away)
        if (code := self._unavailable() if resumes else self.refusal(client)) is not None:
            raise Refused(code)
        return client

    def refusal(self, client: Client) -> Code | None:
        """Why the client cannot start a session now; None if it can."""
        return self._unavailable() or self._busy(client, self.models.current.engine, sessions=1)

    def count_refusal(self, connection: HTTPConnection, code: Code) -> None:
        """Count and log a refused connection."""
        self.stats.refused[code] += 1
        client = connection.client.host if connection.client else ""
        path = ascii(connection.scope["path"][:60])
        logger.info("refused", extra=fields(code=str(code), path=path, client=client))

    @contextmanager
    def uploading(self, client: Client) -> Generator[None]:
        """Count an upload in progress for the length of the block.

        The limit of uploads is that of sessions; raises `ProtocolError` for more.
        """
        with self._claimed("upload", client, self._uploads) as code, self._clients.entered(client):
            if code is not None:
                raise ProtocolError(code, WHY[code])
            self._uploads += 1
            try:
                yield
            finally:
                self._uploads -= 1

    @contextmanager
    def lease(self, client: Client) -> Generator[Lease]:
        """Lease a slot and the current model to the client for the length of the block.

        A refused client gets no slot: it may resume a session, but starting one raises the refusal.
        """
        refused = self.refusal(client)
        with ExitStack() as stack:
            refused = refused or stack.enter_context(self._claimed("session", client, self.sessions.count))
            slots = 0 if refused else 1
            account = stack.enter_context(self._clients.entered(client, slots))
            recognizer = stack.enter_context(self.models.lease())
            engine = recognizer.engine

            def late_refusal() -> Code | None:  # allowed while draining: a stopping server finishes accepted audio
                return _failed(engine) or refused or self._busy(client, engine, sessions=0)

            yield Lease(
                recognizer,
                self.settings,
                self.stats,
                self.resume_store,
                self.sharing,
                account,
                slots,
                self.sessions,
                late_refusal,
            )

    @property
    def open_sessions(self) -> int:
        """Slots in use, of all fronts."""
        return self.sessions.count if self._ledger is None else self._ledger.count("session")

    @property
    def crowded(self) -> bool:
        """Whether no more connections are accepted."""
        limit = self.settings.max_connections
        if self.fronts is None:
            return self.sessions.streams >= limit
        return self.fronts.board.total(Posted.CONNECTIONS) > limit  # with the one that asks

    @property
    def levels(self) -> list[int]:
        """The level of service of each front."""
        own = self.models.current.engine.level
        return [int(own)] if self.fronts is None else self.fronts.board.values(Posted.LEVEL)

    async def post_state(self) -> None:
        """Tell the other fronts the level of this one, and how many clients are away, forever."""
        while self.fronts is not None:
            self.fronts.board.post(Posted.AWAY, self.resume_store.away)
            self.fronts.board.post(Posted.LEVEL, self.models.current.engine.level)
            await asyncio.sleep(POST_S)

    def _client_full(self, client: Client, sessions: int) -> bool:
        if self._ledger is None:
            return self._clients.full(client, sessions)
        return 0 < client.max_sessions < self._ledger.count_of(client) + sessions

    @contextmanager
    def _claimed(self, kind: Kind, client: Client, count: int) -> Generator[Code | None]:
        """Take one of the places that all fronts share, for the length of the block; else yields why there is none.
        `count`: of places taken, without other fronts."""
        limit = self.sessions.limit
        if self._ledger is None:
            yield Code.SERVER_FULL if count >= limit else None
        else:
            with self._ledger.claimed(kind, client, limit) as code:
                yield code

    def _unavailable(self) -> Code | None:
        """Why the server starts no sessions now; None if it does."""
        return Code.SHUTTING_DOWN if self.sessions.draining else _failed(self.models.current.engine)

    def _busy(self, client: Client, engine: EngineService, sessions: int) -> Code | None:
        """Why the server cannot serve `sessions` more sessions of the client now; None if it can."""
        if self._client_full(client, sessions):
            return Code.CLIENT_FULL
        if self.open_sessions + sessions > self.sessions.limit:
            return Code.SERVER_FULL
        return Code.OVERLOADED if engine.level >= Level.FINALS else None


def _failed(engine: EngineService) -> Code | None:
    return None if engine.alive and engine.healthy else Code.ENCODER_FAILED
