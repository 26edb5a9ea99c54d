"""Streams with slow decoding: hotwords, language models and commands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.languages import LanguageSet
from xlsr_live.streaming.ctc.lm import Weights
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import ConfigError, GrammarError
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.protocol.events import Command, Error, Event, Final
from xlsr_live.streaming.session.final_decoder import FinalDecoder
from xlsr_live.streaming.session.session import Session
from xlsr_live.streaming.session.step_decoder import StepDecoder

from tests.support.driving import Float32, lines, run, utterances
from tests.support.fakes import VOCABULARY, FakeEncoder, FakeLanguages, LoudVad, sound
from tests.support.ngrams import language_model
from tests.support.streams import SPEECH, running, say


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(FakeEncoder(), adaptive=False)  # independent of machine load
    yield engine
    engine.close()


def test_hotwords_and_the_language_model_work_as_in_the_core(engine: Engine, tmp_path: Path):
    """These finals are decoded in another thread."""
    lm = language_model(tmp_path, Weights(lm=1.5, word=0.5, beam=20, tokens=5, unknown=0.5), VOCABULARY)
    audio = sound("..ABCD AB " + "." * 10 + "ABCD GH " + "." * 10, letter=1, gap=3)
    here = 320 * 60
    for assets in (Assets(), Assets(language_model=lm)):

        async def scene(assets: Assets = assets) -> list[Event]:
            core = Session(VOCABULARY, vad=LoudVad(), normalized=False, modes=("window",), name="s", assets=assets)
            async with StreamSession(core, engine, clock=lambda: 0.0) as stream:
                await stream.send(audio[:here])
                await stream.set_hotwords(["abce:1.5"])
                with pytest.raises(ConfigError, match="has no x"):
                    await stream.set_hotwords(["x"])
                return await say(stream, audio[here:])

        events = running(scene)
        assert lines(events) == lines(run([audio[:here], ("abce:1.5",), audio[here:]], assets=assets))
        assert [event.text for event in events if isinstance(event, Final)] == ["ABCD AB", "ABCE GH"]


def test_slow_live_steps_are_decoded_in_another_thread_with_the_events_of_the_core(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lm = language_model(tmp_path, Weights(lm=1.5, word=0.5, beam=20, tokens=5), VOCABULARY)
    config = SessionConfig(lm_for="all", hop_ms=200, lookahead_ms=200, max_utterance_ms=2_000)
    audio, assets = sound("AB BAA AB A B AB BAA A AB BAA B " * 3), Assets(language_model=lm)
    threads: set[str] = set()

    def watched(decode: Callable[..., Any]) -> Callable[..., Any]:
        def run_watched(*given: Any) -> Any:
            threads.add(threading.current_thread().name)
            return decode(*given)

        return run_watched

    async def scene() -> list[Event]:
        core = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, modes=("window",), name="s", assets=assets)
        async with StreamSession(core, engine, clock=lambda: 0.0) as stream:
            return await say(stream, audio, 1_600)

    with monkeypatch.context() as patch:
        patch.setattr(StepDecoder, "decode", watched(StepDecoder.decode))
        patch.setattr(FinalDecoder, "__call__", watched(FinalDecoder.__call__))
        events = running(scene)
    assert lines(events) == lines(run([audio], config, assets=assets))
    assert len(utterances(events)) > 1
    assert len(threads) == 1
    assert threads != {threading.current_thread().name}
    assert engine.counters.searches > len(utterances(events))


def test_commands_equal_those_of_the_core_and_grammars_compile_in_a_thread(engine: Engine):
    audio = sound("..DAD ~~ " + "." * 10 + "CAB ~~ " + "." * 10)
    here = 320 * 60
    prepared: list[str] = []

    async def compile(grammar: str, vocabulary: Vocabulary) -> None:
        assert vocabulary is VOCABULARY
        prepared.append(grammar)

    async def scene() -> list[Event]:
        config = SessionConfig(grammar="dad: dad")
        core = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, modes=("window",), name="s")
        async with StreamSession(core, engine, compile=compile, clock=lambda: 0.0) as stream:
            await stream.send(audio[:here])
            await stream.set_grammar("cab: cab")
            with pytest.raises(GrammarError, match="line 1, column 4"):
                await stream.set_grammar("x: x")
            return await say(stream, audio[here:])

    events = running(scene)
    assert lines(events) == lines(run([audio[:here], "cab: cab", audio[here:]], SessionConfig(grammar="dad: dad")))
    assert [event.text for event in events if isinstance(event, Command)] == ["DAD", "CAB"]
    assert prepared == ["cab: cab", "x: x"]


def test_the_grammar_of_a_new_language_compiles_in_a_thread(engine: Engine):
    languages = FakeLanguages()
    prepared: list[tuple[str, Vocabulary]] = []

    async def compile(grammar: str, vocabulary: Vocabulary) -> None:
        prepared.append((grammar, vocabulary))

    async def find(language: str | None, allowed: Sequence[str]) -> LanguageSet:
        return languages.only(language or "", *allowed)

    async def scene() -> list[Event]:
        config = SessionConfig(grammar="dad: dad")
        core = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, languages=languages.only("deu"))
        async with StreamSession(core, engine, compile=compile, languages=find) as stream:
            await stream.set_language("eng")
            with pytest.raises(ConfigError, match="one language"):
                await stream.set_language("deu", ["eng"])
        return []

    running(scene)
    assert prepared == [("dad: dad", languages.vocabulary("eng"))]


def test_a_final_whose_decoding_fails_has_the_words_of_the_live_steps(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    def fail(decoder: FinalDecoder, rows: Float32) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(FinalDecoder, "__call__", fail)

    async def scene() -> list[Event]:
        config = SessionConfig(hotwords=("HGFEDCBA:1",))  # another thread decodes these finals
        core = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, name="s")
        return await say(StreamSession(core, engine, clock=lambda: 0.0), SPEECH)

    events = running(scene)
    assert {event.code for event in events if isinstance(event, Error)} == {"encoder_failed"}
    assert [event.text for event in events if isinstance(event, Final)] == ["AB CD", "EF GH"]
