"""A client that loses its server at any packet and continues on another, without sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xlsr_live.client.remote.position import SessionPosition
from xlsr_live.client.remote.replay import ReplayBuffer
from xlsr_live.streaming.config import SAMPLE_BYTES, AudioFormat, Origin, SessionConfig
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SessionMoved, SpeechEnded
from xlsr_live.streaming.protocol.messages import Flush, Hotwords, Start, parse, to_json
from xlsr_live.streaming.session.session import Session

from tests.support.driving import Driver

MakeDriver = Callable[[SessionConfig, AudioFormat, Origin | None], Driver]


@dataclass
class MovingClient:
    """Keeps what a client keeps, and sends what a client sends, to sessions that `make` begins."""

    make: MakeDriver
    config: SessionConfig
    audio: AudioFormat = field(default_factory=AudioFormat)
    events: list[Event] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replay = ReplayBuffer(SAMPLE_BYTES[self.audio.encoding] * self.audio.channels, self.config)
        self.replay.keeps = True
        self.place = SessionPosition()
        self._sent = 0  # bytes of audio
        self._driver = self.make(self.config, self.audio, None)

    def send(self, message: bytes | str, *, acknowledged: bool = True) -> None:
        """Send one message; without `acknowledged` the acknowledgement is still on its way."""
        self.replay.add(message)
        self._sent += len(message) if isinstance(message, bytes) else 0
        _feed(self._driver, message)
        self._receive()
        if acknowledged:
            received = self._sent // SAMPLE_BYTES[self.audio.encoding] // self.audio.channels
            self.replay.acknowledge(received, self._driver.session.safe)

    def move(self) -> None:
        """The server is gone: continue on another, as the wire would."""
        origin = self.place.origin(self.replay.safe)
        start = parse(to_json(Start(config=self.replay.config, origin=origin)))
        assert isinstance(start, Start)
        self.origins.append(origin)
        self._driver = self.make(start.config, self.audio, start.origin)
        for message in self.replay.restart():
            _feed(self._driver, message)
        self._receive()

    def end(self) -> list[Event]:
        self._driver.run(())
        self._receive()
        return self.events

    def _receive(self) -> None:
        for event in self._driver.events:
            self.place.receive(event)
        self.events += self._driver.events
        self._driver.events.clear()


def _feed(driver: Driver, message: bytes | str) -> None:
    packet: Any = message
    if isinstance(message, str):
        match parse(message):
            case Flush():
                packet = "flush"
            case Hotwords(phrases=phrases):
                packet = phrases
            case other:
                raise AssertionError(other)
    driver.feed(packet)


def outcome(events: Sequence[Event]) -> list[Event]:
    """What must be as in an unbroken session: all but partials, and what is said again of an utterance begun again."""
    return [event for event in events if isinstance(event, Final | SpeechEnded | SessionEnded)]


def count_moves(events: Sequence[Event]) -> int:
    return sum(isinstance(event, SessionMoved) for event in events)


def session(encoder: Any, vad: Any, config: SessionConfig, audio: AudioFormat, origin: Origin | None) -> Session:
    return Session(
        encoder.vocabulary,
        config,
        audio,
        vad=vad,
        normalized=encoder.normalized,
        modes=("window", "cached", "offline"),
        name="s",
        origin=origin,
    )
