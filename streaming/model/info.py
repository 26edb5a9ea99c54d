"""What a loaded model is, without the model: processes that do not run it need no torch."""

from __future__ import annotations

import msgspec

from ..config import LOOKAHEAD_MS, Mode, SessionConfig


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The loaded model, for people and for `/v1/models`."""

    name: str
    parameters: int
    device: str
    dtype: str
    vocabulary: int  # tokens
    language: str | None
    modes: tuple[Mode, ...] = ("window", "offline")  # allowed in sessions; the first is the default
    lookahead_ms: int = LOOKAHEAD_MS  # of sessions that name none

    def lookahead_of(self, config: SessionConfig) -> int:
        """The lookahead of a session with these settings, in milliseconds."""
        return self.lookahead_ms if config.lookahead_ms is None else config.lookahead_ms
