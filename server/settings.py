"""Settings of one server: frozen, checked once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from ..streaming.config import MAX_RATE, MIN_RATE
from ..streaming.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where to listen, whom to let in, and the limit of everything a client can make grow.

    Raises `ConfigError` for a value out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any free port
    token: str | None = field(
        default=None, repr=False
    )  # what clients send as `Authorization: Bearer`; None: nobody must
    origins: tuple[str, ...] = ()  # web origins allowed besides the server's own and localhost, "https://example.org"
    max_sessions: int = 32  # more are refused with 503
    max_message_bytes: int = 1 << 20  # 32 s of 16 kHz 16-bit mono
    max_upload_bytes: int = 25 << 20  # of one request with a file
    max_session_s: float = 6 * 3600
    max_unread_events: int = 1_000  # events a client may leave unread before it is dropped
    idle_timeout_s: float = 60  # without any message from the client
    lm_partials: bool = False  # clients may have the language model in partials: each step holds up the others
    grace_s: float = 30  # for open utterances when the server stops
    vosk_port: int | None = None  # for clients of Vosk's protocol alone, at any path; 0: any free port
    vosk_rate: int = 8_000  # Hz, of their audio if they name no rate
    wyoming_port: int | None = None  # for Wyoming's clients, over TCP; 0: any free port
    wyoming_open: bool = False  # also where others can reach it although there is a token, which Wyoming cannot ask for

    def __post_init__(self) -> None:
        for name in ("port", "vosk_port", "wyoming_port"):
            if not 0 <= (getattr(self, name) or 0) <= 65_535:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 to 65535")
        if not MIN_RATE <= self.vosk_rate <= MAX_RATE:
            raise ConfigError(f"vosk_rate is {self.vosk_rate}; it must be {MIN_RATE} to {MAX_RATE} Hz")
        for name, low in (
            ("max_sessions", 1),
            ("max_message_bytes", 1_024),
            ("max_upload_bytes", 1_024),
            ("max_unread_events", 100),
        ):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("max_session_s", "idle_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be more than 0 s")
        if self.grace_s < 0:
            raise ConfigError(f"grace_s is {self.grace_s}; it must not be negative")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ConfigError("token must be printable ASCII and not empty")
        if self.wyoming_port is not None and self.token is not None and not self.loopback and not self.wyoming_open:
            raise ConfigError(
                f"Wyoming's protocol knows no token, so on {self.host} anyone could use the server without; "
                "set wyoming_open if that is meant"
            )
        for origin in self.origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ConfigError(f"origin {origin!r} must look like https://example.org, without a path")

    @property
    def hard_limit_bytes(self) -> int:
        """Where the websocket layer gives up: a message up to here is answered with an `error` event first."""
        return 4 * self.max_message_bytes

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
