"""The errors of the clients and of the command line."""

from __future__ import annotations

from ..streaming.errors import XlsrLiveError


class ConnectionProblem(XlsrLiveError):
    """The server is unreachable, refuses the session or closed it. The message says what to do.

    `status` is the HTTP status of a refusal; `retry_after` is the number of seconds before the next attempt, if the
    server sent one. `code` is the server's, if it sent one.
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
