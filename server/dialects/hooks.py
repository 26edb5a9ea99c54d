"""What a dialect defines; `base.Dialect` does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ...streaming.protocol.codes import Code
from ...streaming.protocol.events import Error, Event
from ..refusals import CLOSE_CODES
from ..transport import Data


class DialectHooks(ABC):
    """A dialect says what its messages do (`handle_messages`) and how events look (`on_event`, `encode_error`)."""

    dialect: ClassVar[str]  # its name in the metrics
    # Close code when the server stops. Clients take 1000 and 1001 for a normal end, and connect again after 1012.
    stopping_code: ClassVar[int] = 1012
    ignored_errors: ClassVar[frozenset[str]] = frozenset()  # the session goes on, and the dialect cannot express them

    @abstractmethod
    async def handle_messages(self) -> None:
        """Handle messages (`next_message`) until the client ends. Raises `ProtocolError` and other `XlsrLiveError`."""

    @abstractmethod
    def on_event(self, event: Event) -> None:
        """Send a session's event in this dialect; errors go to `encode_error`."""

    @abstractmethod
    def encode_error(self, error: Error) -> Data | None:
        """An error in this dialect; None where the close code is all that it has."""

    def ignores_error(self, error: Error) -> bool:
        """Whether to hide this error from the client; the session must continue after it."""
        return error.code in self.ignored_errors

    def close_frame(self, code: str) -> tuple[int, str]:
        """Code and reason of the close frame after this error."""
        return self.stopping_code if code == Code.SHUTTING_DOWN else CLOSE_CODES.get(code, 1011), code

    def on_end(self) -> None:  # noqa: B027
        """Send what comes last, after all events."""

    async def on_wake(self) -> None:  # noqa: B027
        """Runs in the writer after `outbox.wake`."""

    def on_close(self) -> None:  # noqa: B027
        """The connection has ended, for any reason."""

    @property
    def away(self) -> bool:
        """Whether the client is disconnected and may come back."""
        return False
