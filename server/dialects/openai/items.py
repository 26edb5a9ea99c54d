"""Items of OpenAI's Realtime protocol: one utterance each, or in manual mode all audio between two commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ....streaming.languages import bcp47
from ....streaming.protocol.events import Final as FinalEvent
from ..deltas import Deltas
from .shapes import error, log_probabilities

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


class Emit(Protocol):
    """Sends an event of this kind."""

    def __call__(self, kind: str, /, **fields: Any) -> None: ...


class _Item:
    """An item that is not complete yet."""

    def __init__(self, name: str, deltas: Deltas, start: float) -> None:
        self.name = name
        self.deltas = deltas
        self.start = start  # seconds
        self.finals: list[FinalEvent] = []
        self.failed = False


class Items:
    """The items of one connection. `emit` sends a server event, `name` makes a new id, `join` concatenates texts.
    Times are in seconds since the client connected.
    """

    def __init__(
        self,
        emit: Emit,
        name: Callable[[str], str],
        join: Callable[..., str],
        separator: Callable[[FinalEvent], str],
        *,
        beta: bool,
    ) -> None:
        self.committed_s = 0.0  # where the last item ended
        self.last: str | None = None  # id of the last complete item
        self._emit = emit
        self._name = name
        self._join = join
        self._separator = separator
        self._beta = beta
        self._open: _Item | None = None

    def _new(self, start: float) -> _Item:
        return _Item(self._name("item"), Deltas(self._join), start)

    def begin(self, start: float, *, gated: bool) -> None:
        """Speech has started. Continues an open item."""
        if self._open is not None:
            return
        self._open = self._new(start)
        if gated:
            at = round(start * 1000)
            self._emit("input_audio_buffer.speech_started", item_id=self._open.name, audio_start_ms=at)

    def add_partial(self, committed: str) -> None:
        if self._open is not None:
            self._grow(self._open, self._open.deltas.partial(committed))

    def add_final(self, final: FinalEvent) -> None:
        if self._open is not None:
            self._open.finals.append(final)
            self._grow(self._open, self._open.deltas.final(final.text))

    def fail(self) -> None:
        """The model failed on audio of the open item."""
        if self._open is not None:
            self._open.failed = True

    def discard(self, now: float) -> None:
        """Drop the open item, and all audio up to now."""
        self._open, self.committed_s = None, now

    def _grow(self, item: _Item, delta: str) -> None:
        if delta:
            self._emit(f"{_TRANSCRIPTION}.delta", item_id=item.name, content_index=0, delta=delta)

    def complete(self, end: float, *, gated: bool, logprobs: bool) -> None:
        """Complete the open item, or an empty one."""
        spoken = self._open is not None
        item = self._open or self._new(self.committed_s)
        self._open, before = None, self.last
        self.committed_s, self.last = max(end, self.committed_s), item.name
        if spoken and gated:
            at = round(end * 1000)
            self._emit("input_audio_buffer.speech_stopped", item_id=item.name, audio_end_ms=at)
        self._emit("input_audio_buffer.committed", item_id=item.name, previous_item_id=before)
        message = {
            "id": item.name,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        for kind in ("created",) if self._beta else ("added", "done"):
            self._emit(f"conversation.item.{kind}", previous_item_id=before, item=message)
        if item.failed and not item.finals:
            why = error("the model failed on this audio", code="audio_unintelligible", kind="transcription_error")
            self._emit(f"{_TRANSCRIPTION}.failed", item_id=item.name, content_index=0, error=why)
            return
        self._emit(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.name,
            content_index=0,
            transcript=item.deltas.text,
            usage={"type": "duration", "seconds": round(end - item.start, 3)},
            **({"language": bcp47(language)} if (language := _language(item.finals)) else {}),
            **({"logprobs": log_probabilities(item.finals, self._separator)} if logprobs else {}),
        )


def _language(finals: Sequence[FinalEvent]) -> str | None:
    """That of the last text; None if the model does not have several, or without text."""
    return (finals[-1].language or None) if finals else None
