"""The errors of the clients and of the command line."""

from __future__ import annotations

from ..streaming.errors import XlsrLiveError


class ConnectionProblem(XlsrLiveError):
    """The server cannot be reached, refuses the session or went away. The message says what to do.

    `status` is the HTTP status where the server refused the connection; `retry_after` is the number of seconds to wait
    before the next attempt, if the server gave one. `code` is the server's own, if it gave one.
    """

    code = "connection"

    def __init__(
        self, message: str, *, code: str | None = None, status: int | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after = retry_after


class MissingPackage(XlsrLiveError):
    """An optional package is not installed."""

    code = "not_installed"
