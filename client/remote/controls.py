"""What a client can ask of a session beside sending audio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ...streaming.errors import ConfigError
from ...streaming.protocol.events import Event, SessionEnded, SessionMoved, SessionStarted, Shared
from ...streaming.protocol.messages import (
    LONGEST_TITLE,
    ClientMessage,
    End,
    Flush,
    Grammar,
    Hotwords,
    SetLanguage,
    Share,
)
from .links import view_link


class SessionControls(ABC):
    """The messages of a session. Each takes effect after the audio that was sent before it."""

    def __init__(self, *, share: bool) -> None:
        self._title = "" if share else None  # for viewers; None: not shared
        self._key = ""  # of the shared session

    @property
    @abstractmethod
    def url(self) -> str:
        """The address of its server."""

    @abstractmethod
    async def _send_message(self, message: ClientMessage) -> None: ...

    @property
    def share_link(self) -> str | None:
        """The address at which others can watch: from the event `shared` on, or from `session_started` on after
        `connect(..., share=True)`; else None. A session that moves gets another.
        """
        return view_link(self.url, self._key) if self._key else None

    async def flush(self) -> None:
        """End the utterance here; the session continues."""
        await self._send_message(Flush())

    async def set_hotwords(self, hotwords: Sequence[str]) -> None:
        """Replace the hotwords ("PHRASE" or "PHRASE:BOOST") from here on. Errors come as a `warning`."""
        await self._send_message(Hotwords(tuple(hotwords)))

    async def set_language(self, language: str | None, allowed_languages: Sequence[str] = ()) -> None:
        """Choose the language of utterances whose speech begins from here on, as `SessionConfig` does."""
        await self._send_message(SetLanguage(language, tuple(allowed_languages)))

    async def set_grammar(self, grammar: str) -> None:
        """Replace the command grammar from here on; an empty text removes it. Errors come as a `warning`."""
        await self._send_message(Grammar(grammar))

    async def share(self, title: str = "") -> None:
        """Let others watch from here on, at `share_link`; the event `shared` says when. Called again, it changes the
        title. Raises `ConfigError` if that is too long. A server that shares no sessions sends a `warning`.
        """
        if len(title) > LONGEST_TITLE:
            raise ConfigError(f"the title of a shared session has at most {LONGEST_TITLE} characters")
        self._title = title
        await self._send_message(Share(title))

    async def unshare(self) -> None:
        """End the sharing: `share_link` is void at once, and viewers are disconnected. `share` makes another link."""
        self._title = None
        await self._send_message(Share(on=False))

    async def end(self) -> None:
        """No more audio: the server finishes the open utterance and ends the session."""
        await self._send_message(End())

    def _take_key(self, event: Event) -> None:
        match event:
            case SessionStarted() | SessionMoved() | Shared():
                self._key = event.share if isinstance(event.share, str) else ""
            case SessionEnded():
                self._key = ""
            case _:
                pass
