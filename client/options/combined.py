"""Several click options as one decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def combined(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """A decorator that adds these options to a command. The help lists them in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
