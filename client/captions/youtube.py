"""Captions of a YouTube live stream by HTTP POST, as support.google.com/youtube/answer/6077032 describes it.

Posts are numbered by `seq`; a repeated post keeps its number. The body is a time in UTC and the text spoken then. The
address holds the key of the stream, so it appears in no message.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Final
from urllib.parse import urlsplit

from ...streaming.captions.cues import Cue
from ...streaming.errors import ConfigError
from ..proxies import open_url
from .delivery import Undelivered

URL_VARIABLE: Final = "XLSR_LIVE_YOUTUBE_URL"
TIMEOUT_S: Final = 10.0
HINTS: Final = {
    400: "it does not understand the captions",
    403: "it does not accept the key: is the address in XLSR_LIVE_YOUTUBE_URL that of this stream?",
    404: "it has no such address: is XLSR_LIVE_YOUTUBE_URL that of this stream?",
}


class YouTubeClient:
    """`begun` returns the time at which the session's audio began, in seconds since 1970."""

    def __init__(self, url: str, begun: Callable[[], float]) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError(
                f"{URL_VARIABLE} is not an address such as http://upload.youtube.com/closedcaption?cid=..."
            )
        self._url = url + ("&" if "?" in url else "?")
        self._begun = begun
        self._posted = 0

    def contact(self) -> str:
        """Ask the host for its root, without the key. Returns a message; raises `Undelivered`."""
        parts = urlsplit(self._url)
        root = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
        try:
            open_url(root, timeout=TIMEOUT_S).close()
        except urllib.error.HTTPError as error:  # it answers
            error.close()
        except (OSError, HTTPException) as error:
            raise Undelivered(_reason(error)) from None
        return "it answers; the first caption tests the key"

    def send(self, cue: Cue) -> None:
        """Post a caption. Raises `Undelivered`."""
        at = datetime.fromtimestamp(self._begun() + cue.start, UTC)
        body = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}\n{'<br>'.join(cue.lines)}\n"
        request = urllib.request.Request(
            f"{self._url}seq={self._posted + 1}",
            body.encode(),
            {"Content-Type": "text/plain; charset=utf-8"},
        )
        try:
            with open_url(request, timeout=TIMEOUT_S):
                self._posted += 1
        except urllib.error.HTTPError as error:
            with error:
                hint = HINTS.get(error.code, "it cannot take captions now")
                raise Undelivered(f"HTTP {error.code}: {hint}") from None
        except (OSError, HTTPException) as error:
            raise Undelivered(_reason(error)) from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__
