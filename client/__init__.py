"""The command line and the clients.

`connect` opens a session on a server; it is imported when it is first asked for, so that the command line starts fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .remote.websocket import ConnectionProblem, Stream, connect

__all__ = ["ConnectionProblem", "Stream", "connect"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".remote.websocket", __name__), name)


def __dir__() -> list[str]:
    return __all__
