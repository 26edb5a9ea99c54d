"""Captions in the stream of OBS: `SendStreamCaption` of obs-websocket 5 (part of OBS since version 28).

obs-websocket's docs/generated/protocol.md describes the protocol. The package obsws-python (1.8) is not used: it writes
the password to the log.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, Final

import msgspec
from websockets.exceptions import InvalidProxy, ProxyError, WebSocketException
from websockets.sync.client import ClientConnection, connect

from ...streaming.captions.cues import Cue
from ..proxies import proxy_for
from .delivery import Undelivered

PASSWORD_VARIABLE: Final = "XLSR_LIVE_OBS_PASSWORD"
PORT: Final = 4455
LINE_CHARS: Final = 32  # a row of CEA-608, the format of OBS captions
TIMEOUT_S: Final = 5.0
RPC_VERSION: Final = 1
HELLO, IDENTIFY, IDENTIFIED, REQUEST, RESPONSE = 0, 1, 2, 6, 7  # op codes
AUTHENTICATION_FAILED: Final = 4009  # close code
OUTPUT_NOT_RUNNING: Final = 501  # status of a request


class ObsClient:
    """Connects with `contact` or the first caption, and again after the connection breaks."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self._url = f"ws://{f'[{host}]' if ':' in host else host}:{port}"
        self._proxy = proxy_for(self._url)
        self._password = password
        self._connection: ClientConnection | None = None
        self._stack = ExitStack()  # closes the connection
        self._ids = count(1)

    def contact(self) -> str:
        """Connect. Returns a message; raises `Undelivered` and `OSError`."""
        with self._explained():
            self._connection = self._connection or self._identify()
        return "connected"

    def send(self, cue: Cue) -> None:
        """Show a caption. Raises `Undelivered` and `OSError`."""
        with self._explained():
            self._connection = self._connection or self._identify()
            self._request("SendStreamCaption", {"captionText": "\n".join(cue.lines)})

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn failures of the connection into `Undelivered`."""
        try:
            yield
        except ConnectionRefusedError:
            where = f" through {self._proxy}" if self._proxy else ""
            hint = "is OBS running, with its WebSocket server enabled (Tools)?"
            raise Undelivered(f"nothing answers{where}: {hint}") from None
        except UnicodeError:  # of the resolver
            raise Undelivered(f"{self._url} is not an address") from None
        except (ImportError, ProxyError, InvalidProxy) as error:
            why = error.msg if isinstance(error, InvalidProxy) else error.__cause__ or error
            raise Undelivered(f"{self._proxy} cannot be used: {why}") from None
        except (WebSocketException, TimeoutError, msgspec.DecodeError, KeyError, TypeError) as error:
            code = self._connection.close_code if self._connection else None
            self.close()
            raise Undelivered(_why(error, code)) from None

    def close(self) -> None:
        self._connection = None
        self._stack.close()

    def _identify(self) -> ClientConnection:
        with ExitStack() as opened:
            connection = opened.enter_context(
                connect(
                    self._url,
                    open_timeout=TIMEOUT_S,
                    close_timeout=1.0,
                    compression=None,
                    proxy=self._proxy.url if self._proxy else None,
                )
            )
            identity: dict[str, Any] = {"rpcVersion": RPC_VERSION, "eventSubscriptions": 0}
            if challenge := _receive(connection, HELLO).get("authentication"):
                if not self._password:
                    raise Undelivered(f"OBS needs its password, in the variable {PASSWORD_VARIABLE}")
                identity["authentication"] = answer(self._password, challenge["salt"], challenge["challenge"])
            _send(connection, IDENTIFY, identity)
            _receive(connection, IDENTIFIED)
            self._stack = opened.pop_all()
        return connection

    def _request(self, kind: str, data: dict[str, Any]) -> None:
        assert self._connection is not None
        name = str(next(self._ids))
        _send(self._connection, REQUEST, {"requestType": kind, "requestId": name, "requestData": data})
        status = _receive(self._connection, RESPONSE)["requestStatus"]
        if not status["result"]:
            idle = status["code"] == OUTPUT_NOT_RUNNING
            raise Undelivered("OBS is not streaming" if idle else f"OBS refuses: {status.get('comment') or status}")


def answer(password: str, salt: str, challenge: str) -> str:
    """The authentication string of obs-websocket."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return digest(digest(password + salt) + challenge)


def _send(connection: ClientConnection, op: int, data: dict[str, Any]) -> None:
    connection.send(msgspec.json.encode({"op": op, "d": data}).decode())


def _receive(connection: ClientConnection, op: int) -> dict[str, Any]:
    """The data of the next message of this kind."""
    while True:
        message = msgspec.json.decode(connection.recv(timeout=TIMEOUT_S))
        if message["op"] == op:
            return message["d"]


def _why(error: Exception, code: int | None) -> str:
    closed = getattr(getattr(error, "rcvd", None), "code", code)
    if closed == AUTHENTICATION_FAILED:
        return f"OBS refuses the password in {PASSWORD_VARIABLE}"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    if closed is None:
        return "the program there does not speak obs-websocket 5"
    return f"the connection was closed ({closed})"
