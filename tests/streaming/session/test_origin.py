"""A session that continues on another server, at any packet: no utterance is lost, doubled or changed."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from xlsr_live.streaming.config import AudioFormat, Origin, SessionConfig
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SpeechEnded, SpeechStarted
from xlsr_live.streaming.protocol.messages import Flush, to_json

from tests.support.driving import Driver, Float32, timeless
from tests.support.fakes import FakeEncoder, LoudVad, sound
from tests.support.moves import MovingClient, count_moves, session
from tests.support.strategies import configs, seeds, sounds

FORMATS = [AudioFormat(), AudioFormat(channels=2), AudioFormat(encoding="pcm_f32le")]


def encoded(audio: Float32, form: AudioFormat) -> bytes:
    values = np.repeat(audio[:, None], form.channels, axis=1)
    return (values * 32_768).astype("<i2").tobytes() if form.encoding == "pcm_s16le" else values.tobytes()


def client(config: SessionConfig, form: AudioFormat, gate: bool, random: Random | None) -> MovingClient:
    encoder = FakeEncoder()

    def make(config: SessionConfig, audio: AudioFormat, origin: Origin | None) -> Driver:
        return Driver(session(encoder, LoudVad() if gate else None, config, audio, origin), encoder, random)

    return MovingClient(make, config, form)


@st.composite
def long_sounds(draw: st.DrawFn) -> Float32:
    """Some 30 s, more than a moved session needs."""
    parts = draw(st.lists(sounds, min_size=2, max_size=5))
    order = draw(st.lists(st.integers(0, len(parts) - 1), min_size=10, max_size=12))
    return np.concatenate([parts[each] for each in order])


def said(client: MovingClient) -> tuple[list[Event], float]:
    """The finals and the length. Without their numbers: what follows a cut may have no speech, and so no words. The
    moved session leaves such an utterance out.
    """
    finals = [replace(event, utterance=0) for event in client.events if isinstance(event, Final)]
    ended = client.events[-1]
    assert isinstance(ended, SessionEnded)
    return timeless(finals), ended.audio_s


@given(long_sounds(), configs(hop_ms=480), st.booleans(), st.sampled_from(FORMATS), seeds, st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_a_session_cut_at_any_packet_and_continued_elsewhere_equals_an_unbroken_one(
    audio, config, gate, form, seed, moves
):
    random = Random(seed)
    sizes = [random.choice([160, 480, 1_600, 8_000, 24_000]) for _ in range(len(audio))]
    packets: list[bytes | str] = []
    at = 0
    while at < len(audio):
        size = sizes[len(packets)]
        packets.append(encoded(audio[at : at + size], form))
        at += size
        if random.random() < 0.02:
            packets.append(to_json(Flush()))
    cuts = {random.randrange(len(packets)) for _ in range(moves)}
    whole, moved = client(config, form, gate, None), client(config, form, gate, Random(seed))
    for number, packet in enumerate(packets):
        whole.send(packet)
        moved.send(packet, acknowledged=random.random() < 0.5)
        if number in cuts:
            moved.move()
    moved.end()
    whole.end()
    assert said(moved) == said(whole)
    ended = [event for event in moved.events if isinstance(event, SpeechEnded | SessionEnded)]
    *utterances, last = ended
    assert isinstance(last, SessionEnded)
    numbers = [event.utterance for event in utterances if isinstance(event, SpeechEnded)]
    assert numbers == list(range(last.utterances))
    assert count_moves(moved.events) == len(cuts)


def test_a_moved_session_sends_less_than_all_audio_again():
    talker = client(SessionConfig(), AudioFormat(), True, None)
    for _ in range(30):
        talker.send(encoded(sound("AB CD EF " + "." * 12), AudioFormat()))
    talker.move()
    (origin,) = talker.origins
    assert origin.sample % 7_680 == 0
    sent = 30 * len(sound("AB CD EF " + "." * 12))
    assert 12 * 16_000 <= sent - origin.sample < 15 * 16_000
    numbers = [event.utterance for event in talker.end() if isinstance(event, SpeechStarted)]
    assert numbers == list(range(30))
