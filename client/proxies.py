"""Proxies for connections: from the environment or the system; none for connections to this machine."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

VARIABLES: Final = {  # in order of preference; RFC 6455 prefers SOCKS, then the proxy for HTTPS
    "ws": ("ws", "socks", "https", "http", "all"),
    "wss": ("wss", "socks", "https", "all"),
    "http": ("http", "all"),
    "https": ("https", "all"),
}


@dataclass(frozen=True)
class Proxy:
    """A proxy and the variable that names it."""

    url: str
    variable: str  # its source, such as http_proxy

    @property
    def socks(self) -> bool:
        return urlsplit(self.url).scheme.startswith("socks")

    def __str__(self) -> str:
        """For messages, without a password."""
        parts = urlsplit(self.url)
        return f"the proxy {parts.scheme}://{parts.netloc.rpartition('@')[2]} ({self.variable})"


def proxy_for(url: str) -> Proxy | None:
    """The proxy for a connection to `url` (ws, wss, http or https)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    for kind in VARIABLES.get(parts.scheme, ()):
        if address := proxies.get(kind):
            if "://" not in address:
                address = f"http://{address}"
            if kind == "socks":
                address = address.replace("http://", "socks5h://")
            return Proxy(address, f"{kind}_proxy")
    return None


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        address = ip_address(host)
        address = (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
        return address.is_loopback or address.is_unspecified
    return False


def open_url(target: str | urllib.request.Request, *, timeout: float) -> Any:
    """`urllib.request.urlopen` through `proxy_for`. Raises `OSError`, also for a SOCKS proxy: urllib cannot use it."""
    request = urllib.request.Request(target) if isinstance(target, str) else target
    proxy = proxy_for(request.full_url)
    if proxy and proxy.socks:
        raise OSError(f"{proxy} is a SOCKS proxy, which does not work for HTTP here: set {request.type}_proxy")
    handler = urllib.request.ProxyHandler({request.type: proxy.url} if proxy else {})
    try:
        return urllib.request.build_opener(handler).open(request, timeout=timeout)
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        if proxy:
            reason = getattr(error, "reason", error)
            raise OSError(f"{getattr(reason, 'strerror', None) or reason}, through {proxy}") from error
        raise
