"""Converts connection failures into `ConnectionProblem`s that say what to do."""

from __future__ import annotations

import ssl

from websockets.exceptions import InvalidProxy, InvalidProxyStatus, InvalidStatus, InvalidURI, ProxyError
from websockets.http11 import Response

from ...streaming.errors import EventError
from ...streaming.protocol.events import Error, from_json
from ..errors import ConnectionProblem
from ..proxies import Proxy


def connection_problem(url: str, error: Exception, proxy: Proxy | None, timeout_s: float) -> ConnectionProblem:
    """The problem for an `error` while connecting to `url`."""
    through = f" through {proxy}" if proxy else ""
    match error:
        case InvalidStatus(response=response):
            return _refusal(url, response)
        case ImportError():  # of python-socks
            return ConnectionProblem(f"{proxy} needs the package python-socks: pip install python-socks", code="proxy")
        case InvalidProxyStatus(response=response):
            said = f"HTTP {response.status_code}"
            return ConnectionProblem(f"{proxy} refuses a connection to {url}: {said}", code="proxy")
        case InvalidProxy(msg=why):
            return ConnectionProblem(f"{proxy} cannot be used: {why}", code="proxy")
        case ProxyError():
            return ConnectionProblem(f"{proxy} does not work: {error.__cause__ or error}", code="proxy")
        case TimeoutError():
            return ConnectionProblem(f"no answer from {url}{through} within {timeout_s:.0f} s", code="timeout")
        case ssl.SSLError():
            return ConnectionProblem(f"no secure connection to {url}{through}: {error.reason}", code="tls")
        case InvalidURI() | ValueError():  # a UnicodeError for a name such as a..b
            return ConnectionProblem(f"{url} is not a websocket address such as ws://127.0.0.1:8765/v1/stream")
        case OSError():
            hint = f"check {proxy.variable} and no_proxy" if proxy else "start a server with: xlsr-live serve"
            return ConnectionProblem(f"nothing answers at {url}{through} ({_reason(error)}); {hint}", code="refused")
        case _:
            return ConnectionProblem(f"the program at {url}{through} is not a websocket server", code="not_a_websocket")


def _refusal(url: str, response: Response) -> ConnectionProblem:
    status, after = response.status_code, response.headers.get("Retry-After", "")
    retry_after = int(after) if after.isdecimal() else None
    try:
        body = from_json(bytes(response.body or b""))
    except EventError:  # from a proxy or another server
        body = None
    code = body.code if isinstance(body, Error) else f"http_{status}"
    match status:
        case 401:
            hint = "the token is missing or wrong (XLSR_LIVE_TOKEN or --token-file)"
        case _ if isinstance(body, Error):
            hint = body.message + (f" (in {retry_after} seconds)" if retry_after else "")
        case 403 | 404:  # an ASGI server answers 403 at a path without a websocket
            hint = "it does not allow this client, or has nothing at this path (the native protocol: /v1/stream)"
        case 429 | 503:
            hint = f"it is full or not ready; try again in {retry_after or 'a few'} seconds"
        case _:
            hint = "see the server's log"
    message = f"{url} refuses the connection with HTTP {status}: {hint}"
    return ConnectionProblem(message, code=code, status=status, retry_after=retry_after)


def _reason(error: OSError) -> str:
    # asyncio joins the failures of several addresses (IPv6, IPv4) in one message.
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return (error.strerror or str(error)).lower()
