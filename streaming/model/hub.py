"""Whether the Hugging Face hub is reachable. One quick check replaces the long retries of every download."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from typing import Final

PATIENCE: Final = 4.0  # seconds


def address() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def offline() -> bool:
    """Whether the user forbids attempts to reach the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def problem() -> str | None:
    """Why the hub is unreachable; None if it answers. Uses the environment's proxies; takes `PATIENCE` at most."""
    result: list[str | None] = []

    def check() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address(), method="HEAD"), timeout=PATIENCE).close()
            result.append(None)
        except urllib.error.HTTPError as error:
            result.append(None if error.code < 500 else f"HTTP {error.code}")
        except (OSError, ValueError) as error:
            result.append(str(getattr(error, "reason", error)))

    # A daemon thread: the name lookup has no timeout and must not delay the end of the program.
    thread = threading.Thread(target=check, name="hub", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return result[0] if result else f"no answer within {PATIENCE:.0f} s"
