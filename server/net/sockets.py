"""Where the server listens, and with which certificate."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from msgspec.structs import replace

from ...streaming.errors import ConfigError
from ..settings import ServerSettings

PORTS = ("port", "vosk_port", "wyoming_port")


@contextmanager
def listening(settings: ServerSettings) -> Generator[tuple[ServerSettings, dict[str, socket.socket]]]:
    """Take the ports, by the names of their settings; also return the settings with those that were found free. Nobody
    is answered yet: a connection that waits for a model to load would look like one to a server that hangs. Raises
    `ConfigError`.
    """
    with ExitStack() as stack:
        wanted = {name: getattr(settings, name) for name in PORTS}
        taken = {name: stack.enter_context(bind(settings, port)) for name, port in wanted.items() if port is not None}
        yield replace(settings, **{name: listener.getsockname()[1] for name, listener in taken.items()}), taken


def bind(settings: ServerSettings, port: int) -> socket.socket:
    """Take a port. Raises `ConfigError`."""
    with _taking(settings, port), ExitStack() as stack:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = stack.enter_context(socket.socket(family, kind, protocol))
        if os.name == "posix":  # else a port is not free for a minute after a server has left it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        stack.pop_all()
    if sys.platform == "linux":
        # Inherited by the connections. Data that a client never reads would otherwise hold its socket for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.idle_timeout_s * 1000))
    return listener


def listen(settings: ServerSettings, listener: socket.socket) -> None:
    """Let connections in. Raises `ConfigError`: another process may have done so at the same port meanwhile."""
    with _taking(settings, listener.getsockname()[1]):
        listener.listen(128)


@contextmanager
def _taking(settings: ServerSettings, port: int) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot listen on {settings.host} port {port}: {error.strerror}") from None


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the certificate of the settings, if there is one. Raises `ConfigError`."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty password: the prompt for another would stop a server that nobody watches.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(f"tls_cert {settings.tls_cert} and tls_key {settings.tls_key}: {why}") from None
    return context


def address(settings: ServerSettings) -> str:
    """Of the websocket, for clients on this machine or those who know the host."""
    return f"{'ws' if settings.tls_cert is None else 'wss'}://{_host(settings)}:{settings.port}/v1/stream"


def page_address(settings: ServerSettings) -> str:
    """Of the web page."""
    return f"{'http' if settings.tls_cert is None else 'https'}://{_host(settings)}:{settings.port}/"


def _host(settings: ServerSettings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host
