"""Listening sockets, the TLS certificate, and the server's own addresses."""

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

PORT_SETTINGS = ("port", "vosk_port", "wyoming_port")


@contextmanager
def bound_sockets(settings: ServerSettings) -> Generator[tuple[ServerSettings, dict[str, socket.socket]]]:
    """Bind every port of the settings. Returns the settings with the ports in use, and the sockets by setting name.

    The sockets do not listen yet: a connection that waits while a model loads looks like a server that hangs. Raises
    `ConfigError`.
    """
    with ExitStack() as stack:
        ports = {name: getattr(settings, name) for name in PORT_SETTINGS}
        sockets = {name: stack.enter_context(bind(settings, port)) for name, port in ports.items() if port is not None}
        yield replace(settings, **{name: one.getsockname()[1] for name, one in sockets.items()}), sockets


def bind(settings: ServerSettings, port: int) -> socket.socket:
    """A socket bound to the port. Raises `ConfigError`."""
    with _naming_the_port(settings, port), ExitStack() as stack:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = stack.enter_context(socket.socket(family, kind, protocol))
        if os.name == "posix":  # otherwise the port stays taken for a minute after a server stops
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        stack.pop_all()
    if sys.platform == "linux":
        # Connections inherit it. Otherwise data that a client never reads keeps its socket open forever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.idle_timeout_s * 1000))
    return listener


def listen(settings: ServerSettings, listener: socket.socket) -> None:
    """Accept connections. Raises `ConfigError` if another process now listens on the port."""
    with _naming_the_port(settings, listener.getsockname()[1]):
        listener.listen(128)


@contextmanager
def _naming_the_port(settings: ServerSettings, port: int) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot listen on {settings.host} port {port}: {error.strerror}") from None


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the certificate of the settings; None without one. Raises `ConfigError`."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty password: with None, OpenSSL prompts for one and an unattended server hangs.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(f"tls_cert {settings.tls_cert} and tls_key {settings.tls_key}: {reason}") from None
    return context


def websocket_url(settings: ServerSettings) -> str:
    """The URL of the native websocket, with the host of the settings."""
    return f"{'ws' if settings.tls_cert is None else 'wss'}://{_host(settings)}:{settings.port}/v1/stream"


def page_url(settings: ServerSettings) -> str:
    """The URL of the web page."""
    return f"{'http' if settings.tls_cert is None else 'https'}://{_host(settings)}:{settings.port}/"


def _host(settings: ServerSettings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host
