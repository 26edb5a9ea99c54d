"""The fuzz targets: every parser of client or operator input, with its inputs and the call that feeds it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from xlsr_live.server.access.tokens import load_tokens
from xlsr_live.server.configuration import PREFIX, configure
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.commands.compiled import CompiledGrammar
from xlsr_live.streaming.config import Origin, SessionConfig
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.protocol.events import SessionEnded, SpeechStarted
from xlsr_live.streaming.protocol.messages import Start, parse
from xlsr_live.streaming.session.session import Session

from tests.support import fuzz_inputs
from tests.support.driving import Driver
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad
from tests.support.fuzz_server import Server
from tests.support.moves import session


class Target(NamedTuple):
    """One parser: the inputs that Hypothesis makes, and a call that feeds one and returns the number of messages."""

    inputs: SearchStrategy[Any]
    feed: Callable[[Server, Any], int]


def dialect(path: str, seeds: list[dict[str, Any]], queries: SearchStrategy[bytes] | None = None) -> Target:
    """Whole websocket conversations. The client receives declared errors as messages."""

    def feed(server: Server, conversation: Any) -> int:
        messages, query, headers = conversation
        server.websocket(path, query, headers, messages)
        return len(messages)

    return Target(
        st.tuples(
            fuzz_inputs.conversations(seeds),
            st.just(b"") if queries is None else queries,
            st.just({}) | fuzz_inputs.headers(),
        ),
        feed,
    )


def function(inputs: SearchStrategy[Any], call: Callable[[Any], object]) -> Target:
    """One function, which may raise `XlsrLiveError`."""

    def feed(_: Server, value: Any) -> int:
        with suppress(XlsrLiveError):
            call(value)
        return 1

    return Target(inputs, feed)


def upload(server: Server, form: Any) -> int:
    server.request("POST", "/v1/audio/transcriptions", *form)
    return 1


def request(server: Server, parts: Any) -> int:
    method, path, text, query, headers = parts
    server.request(method, path, headers, [text.encode(errors="replace")], query)
    return 1


def packets(server: Server, data: bytes) -> int:
    server.wyoming(data)
    return max(1, data.count(b"\n"))


def native(text: str) -> None:
    message = parse(text)
    if isinstance(message, Start):
        modes = ("cached", "window", "offline")
        Session(VOCABULARY, message.config, message.audio, vad=None, normalized=False, modes=modes)


def origin(move: tuple[str, list[str | bytes]]) -> None:
    """A session that continues another: nothing comes before its origin, and nothing is said of final audio."""
    text, sent = move
    start = parse(text)
    assert isinstance(start, Start)
    begin = start.origin or Origin()
    vad = None if start.config.vad == "none" else LoudVad()
    begun = session(FakeEncoder(context=False), vad, start.config, start.audio, begin)
    driver = Driver(begun, FakeEncoder(context=False))
    sample, final_end = (at / 16_000 for at in begin.at(start.sample_rate))
    events = driver.run(sent)
    numbers = [event.utterance for event in events if isinstance(event, SpeechStarted)]
    assert numbers == list(range(begin.utterance, begin.utterance + len(numbers)))
    assert all(event.start >= final_end - 0.001 for event in events if isinstance(event, SpeechStarted))
    ended = events[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.utterances == begin.utterance + len(numbers)
    assert ended.audio_s >= sample - 0.001
    received = begun._audio.received
    assert begin.sample <= begun.safe <= begin.sample + received


def hotwords(phrases: list[str]) -> None:
    Session(VOCABULARY, SessionConfig(hotwords=tuple(phrases)), vad=None, normalized=False)


def settings_file(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)
        file.flush()
        str(configure(Path(file.name)))


def environment(variables: dict[str, str]) -> None:
    configure(None, variables)


def tokens_file(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)
        file.flush()
        load_tokens(ServerSettings(tokens_file=file.name))


_NAMES = st.sampled_from([PREFIX + name.upper() for name in ServerSettings.__struct_fields__] + [PREFIX + "X"])
_PHRASES = st.lists(fuzz_inputs.texts | fuzz_inputs.documents("AB CD:2.5"), max_size=4) | st.just(["A"] * 101)

TARGETS: Final = {
    "native messages": function(fuzz_inputs.texts_of(fuzz_inputs.NATIVE), native),
    "native": dialect("/v1/stream", fuzz_inputs.NATIVE),
    "origin": function(fuzz_inputs.moves(), origin),
    "vosk": dialect("/", fuzz_inputs.VOSK),
    "deepgram": dialect("/v1/listen", fuzz_inputs.DEEPGRAM, fuzz_inputs.queries()),
    "openai realtime": dialect("/v1/realtime", fuzz_inputs.REALTIME),
    "openai uploads": Target(fuzz_inputs.forms(), upload),
    "other requests": Target(
        st.tuples(
            st.sampled_from(["GET", "POST"]),
            st.sampled_from(fuzz_inputs.PATHS),
            fuzz_inputs.texts_of(fuzz_inputs.REALTIME),
            fuzz_inputs.queries(),
            fuzz_inputs.headers(),
        ),
        request,
    ),
    "wyoming": Target(fuzz_inputs.packets(), packets),
    "hotwords": function(_PHRASES, hotwords),
    "grammar": function(fuzz_inputs.documents(fuzz_inputs.GRAMMAR), lambda text: CompiledGrammar(text, VOCABULARY)),
    "settings file": function(fuzz_inputs.documents(fuzz_inputs.SETTINGS), settings_file),
    "environment": function(st.dictionaries(_NAMES, fuzz_inputs.texts, max_size=3), environment),
    "tokens file": function(fuzz_inputs.documents(fuzz_inputs.TOKENS), tokens_file),
}
