"""Loads fakes for servers with several processes, which find the functions by their names.

`python -m tests.support.several_fronts` serves with two fronts and prints the usual ready line.
"""

from __future__ import annotations

from typing import Any

from xlsr_live.server.run import serve
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fakes import FakeEncoder

SETTINGS: dict[str, Any] = {"port": 0, "fronts": 2, "max_sessions": 4, "lm": "none", "grace_s": 5.0}


def load_fake(settings: ServerSettings) -> Recognizer:
    return Recognizer(FakeEncoder())  # type: ignore[arg-type]


def fail_to_load(settings: ServerSettings) -> Recognizer:
    raise ModelError("no such model")


def load_for_nothing(settings: ServerSettings) -> Recognizer:
    raise SystemExit(3)


if __name__ == "__main__":
    from tests.support import several_fronts

    serve(ServerSettings(**SETTINGS), several_fronts.load_fake)
