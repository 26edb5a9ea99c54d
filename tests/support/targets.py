"""Every parser that strangers or operators write for, by name: what is offered to it, and how it is asked."""

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
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.protocol.messages import Start, parse
from xlsr_live.streaming.session.session import Session

from tests.support import offered
from tests.support.fakes import VOCABULARY
from tests.support.hostile import Server


class Target(NamedTuple):
    offered: SearchStrategy[Any]
    ask: Callable[[Server, Any], int]  # how many messages that was


def dialect(path: str, seeds: list[dict[str, Any]], queries: SearchStrategy[bytes] | None = None) -> Target:
    """A websocket's whole conversations. Errors that are declared are said to the client."""

    def ask(server: Server, each: Any) -> int:
        said, query, headers = each
        server.websocket(path, query, headers, said)
        return len(said)

    return Target(
        st.tuples(offered.said(seeds), st.just(b"") if queries is None else queries, st.just({}) | offered.headers()),
        ask,
    )


def alone(offers: SearchStrategy[Any], take: Callable[[Any], object]) -> Target:
    """One function, which may raise `XlsrLiveError`."""

    def ask(_: Server, each: Any) -> int:
        with suppress(XlsrLiveError):
            take(each)
        return 1

    return Target(offers, ask)


def upload(server: Server, each: Any) -> int:
    server.request("POST", "/v1/audio/transcriptions", *each)
    return 1


def request(server: Server, each: Any) -> int:
    method, path, text, query, headers = each
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
_PHRASES = st.lists(offered.texts | offered.documents("AB CD:2.5"), max_size=4) | st.just(["A"] * 101)

TARGETS: Final = {
    "native messages": alone(offered.texts_of(offered.NATIVE), native),
    "native": dialect("/v1/stream", offered.NATIVE),
    "vosk": dialect("/", offered.VOSK),
    "deepgram": dialect("/v1/listen", offered.DEEPGRAM, offered.queries()),
    "openai realtime": dialect("/v1/realtime", offered.REALTIME),
    "openai uploads": Target(offered.forms(), upload),
    "other requests": Target(
        st.tuples(
            st.sampled_from(["GET", "POST"]),
            st.sampled_from(offered.PATHS),
            offered.texts_of(offered.REALTIME),
            offered.queries(),
            offered.headers(),
        ),
        request,
    ),
    "wyoming": Target(offered.packets(), packets),
    "hotwords": alone(_PHRASES, hotwords),
    "grammar": alone(offered.documents(offered.GRAMMAR), lambda text: CompiledGrammar(text, VOCABULARY)),
    "settings file": alone(offered.documents(offered.SETTINGS), settings_file),
    "environment": alone(st.dictionaries(_NAMES, offered.texts, max_size=3), environment),
    "tokens file": alone(offered.documents(offered.TOKENS), tokens_file),
}
