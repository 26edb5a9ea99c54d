"""Whether the Hugging Face hub can be reached: asked once and quickly, as every download would ask again and again."""

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
    """Whether the user wants no attempt to reach the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def problem() -> str | None:
    """Why the hub cannot be reached, or None if it can. Uses the environment's proxies; takes `PATIENCE` at most."""
    result: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address(), method="HEAD"), timeout=PATIENCE).close()
            result.append(None)
        except urllib.error.HTTPError as error:
            result.append(None if error.code < 500 else f"HTTP {error.code}")
        except (OSError, ValueError) as error:
            result.append(str(getattr(error, "reason", error)))

    # A daemon: looking up a name has no timeout of its own, and must not hold up the end of the program.
    asker = threading.Thread(target=ask, name="hub", daemon=True)
    asker.start()
    asker.join(PATIENCE)
    return result[0] if result else f"no answer within {PATIENCE:.0f} s"
