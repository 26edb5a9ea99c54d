"""The command line and the clients.

`connect` opens a session on a server. It is imported at its first use, so the command line starts fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ConnectionProblem
    from .remote.stream import Stream
    from .remote.websocket import connect

_MODULE = {"ConnectionProblem": "errors", "Stream": "remote.stream", "connect": "remote.websocket"}

__all__ = ["ConnectionProblem", "Stream", "connect"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
