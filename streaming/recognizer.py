"""Load a model once, open any number of sessions.

recognizer = Recognizer.load("bundled")
for final in recognizer.transcribe("talk.wav"):
    print(final.text)
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from .audio.decoder import AudioDecoder
from .audio.files import AudioInput, open_input
from .audio.normalize import normalize
from .audio.vad import make_vad
from .commands.compiled import compiled
from .config import AUTO, AudioFormat, ModelOptions, SessionConfig, check_language_choice
from .ctc.assets import Assets
from .ctc.languages import LanguageSet
from .ctc.vocabulary import Vocabulary
from .driver import Call, SessionDriver
from .engine.engine import Engine
from .errors import AudioError, ConfigError, EngineError
from .frames import FIELD, too_short
from .languages import choose
from .live import StreamSession
from .overload import Level
from .protocol.events import Error, Event, Final
from .session.decodings import Choice, Decodings
from .session.identification import Identification
from .session.language_lock import make_lock
from .session.session import Session
from .session.to_events import report_final

if TYPE_CHECKING:
    from .model.encoder import ModelInfo, XlsrEncoder

_BLOCK_SECONDS = 0.1
_IN_FLIGHT = 8  # jobs of a file at the engine


class Recognizer:
    """A loaded model and the threads that run it. All sessions share the weights; each has its own state.

    Close it when done, or use it as a context manager.
    """

    def __init__(
        self,
        encoder: XlsrEncoder,
        assets: Assets | None = None,
        *,
        adaptive: bool = True,
        language: str | None = None,
        allowed_languages: Sequence[str] = (),
    ) -> None:
        self.encoder = encoder
        self.assets = assets or Assets()
        self.engine = Engine(encoder, adaptive=adaptive)
        self._many: Any = getattr(encoder, "languages", None)  # languages of the checkpoint; None: only one
        self._language = language, tuple(allowed_languages)  # of sessions that name none
        self._compiler = ThreadPoolExecutor(1, "compile")  # for grammars
        self._loader = ThreadPoolExecutor(1, "languages")

    @classmethod
    def load(
        cls,
        model: str = "bundled",
        *,
        revision: str | None = None,
        language: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        max_batch: int | None = None,
        adaptive: bool = True,
        lm: Path | str | None = None,
        calibration: Path | str | None = None,
        allowed_languages: Sequence[str] = (),
    ) -> Self:
        """Load "bundled", a local directory, or a Hugging Face name (pinned by `revision`).

        `language` is that of sessions which name none, with a multilingual checkpoint such as MMS: a code or a name, or
        "auto" with `allowed_languages`. `device` is auto, cpu or cuda; `dtype`
        auto, float32, bfloat16, float16 or int8 (on some processors). `threads` sets torch's threads for the whole
        process; by default a small model on a CPU gets one, since more gain nothing. `max_batch` limits the utterances
        in one call of the model: 64 on a GPU, one on a CPU, where more save nothing and change the last bits of each
        other's numbers. `adaptive` sessions give up partials, never finals, while answers come too late (`Level`). `lm`
        is the file or folder of a language model, "bundled" or "none"; None means the checkpoint's own, if it has one.
        `calibration` is the file or folder of a calibration; None means the checkpoint's own. Raises `ModelError` and
        `LanguageModelError`.
        """
        options = ModelOptions(
            model,
            revision=revision,
            language=language,
            device=device,
            dtype=dtype,
            threads=threads,
            max_batch=max_batch,
            lm=lm,
            calibration=calibration,
            allowed_languages=tuple(allowed_languages),
        )
        return cls.from_options(options, adaptive=adaptive)

    @classmethod
    def from_options(cls, options: ModelOptions, *, adaptive: bool = True) -> Self:
        """`load` with its options in one object. Raises `ModelError` and `LanguageModelError`."""
        from .model.assets import load_assets
        from .model.load import load
        from .model.source import find_source

        language, allowed = options.language, options.allowed_languages
        check_language_choice(language, allowed)
        source = find_source(options.model, options.revision)
        encoder = load(replace(options, language=None) if language == AUTO else options, source)
        assets = load_assets(source, encoder.vocabulary, options.lm, options.calibration)
        return cls(encoder, assets, adaptive=adaptive, language=language, allowed_languages=allowed)

    @property
    def info(self) -> ModelInfo:
        return self.encoder.info

    def session(
        self, config: SessionConfig | None = None, audio: AudioFormat | None = None, *, name: str | None = None
    ) -> StreamSession:
        """Open a stream, in a running event loop. A new grammar or language blocks the loop, for a second or longer,
        unless `prepare` was called. Raises `GrammarError` and `ConfigError`, also for a setting that this checkpoint
        rules out.
        """
        session = self._new_session(config, audio, name, self.engine.level)
        return StreamSession(session, self.engine, compile=self._compile_aside, languages=self._load_aside)

    async def prepare(self, config: SessionConfig) -> None:
        """Do in threads what would delay the event loop when a session with these settings opens: load its languages,
        compile its grammar. Raises `GrammarError`, `ConfigError` and `ModelError`.
        """
        languages = await self._load_aside(config.language, config.allowed_languages)
        if languages is not None and len(languages) > 1:
            return  # no grammar then
        vocabulary = self.encoder.vocabulary if languages is None else next(iter(languages.entries.values()))[0]
        await self._compile_aside(config.grammar, vocabulary)

    def languages(self, language: str | None = None, allowed: Sequence[str] = ()) -> LanguageSet | None:
        """The languages that a session may use, loaded; None if the checkpoint does not have several.

        `language` and `allowed` as in `SessionConfig`. Raises `ConfigError`, and `ModelError` if one does not load.
        """
        codes = self.codes(language, allowed)
        if codes is None:
            return None
        for code in codes:
            self._many.ensure(code)
        return LanguageSet({code: (self._many.vocabulary(code), self._many.assets(code)) for code in codes})

    def codes(self, language: str | None = None, allowed: Sequence[str] = ()) -> tuple[str, ...] | None:
        """The same languages as the checkpoint names them, without loading them."""
        if self._many is None:
            if language is not None:
                raise ConfigError(f"{self.info.name} has no languages to choose from: leave the language out")
            return None
        if language is None:
            language, allowed = self._language
        return choose(language, allowed, known=self._many.known, default=self._many.default, model=self.info.name)

    @property
    def known_languages(self) -> tuple[str, ...]:
        """Codes of all languages of the checkpoint; empty if it does not have several."""
        return () if self._many is None else self._many.known

    @property
    def identifies(self) -> bool:
        """Whether sessions that name no language have "auto"."""
        return self._language[0] == AUTO

    @property
    def trial_language(self) -> str | None:
        """What to name in a session that only tries the model: None where there is a default, else any language."""
        many = self._many
        return None if many is None or self._language[0] or many.default else many.known[0]

    def vocabulary(self, language: str | None = None) -> Vocabulary:
        """That of a language, as the checkpoint names it; None for a checkpoint that does not have several."""
        return self.encoder.vocabulary if self._many is None or language is None else self._many.vocabulary(language)

    async def _load_aside(self, language: str | None, allowed: Sequence[str] = ()) -> LanguageSet | None:
        if self._many is None:
            return self.languages(language, allowed)
        return await asyncio.get_running_loop().run_in_executor(self._loader, self.languages, language, allowed)

    async def _compile_aside(self, grammar: str, vocabulary: Vocabulary) -> None:
        if grammar.strip():
            await asyncio.get_running_loop().run_in_executor(self._compiler, self._compile, grammar, vocabulary)

    def _compile(self, grammar: str, vocabulary: Vocabulary) -> None:
        begun = time.thread_time()
        try:
            compiled(grammar, vocabulary)
        finally:  # grammars of clients take at most a third of a core
            with suppress(RuntimeError):  # the recognizer was closed
                self._compiler.submit(time.sleep, 2 * (time.thread_time() - begun))

    def stream(self, audio: AudioInput, config: SessionConfig | None = None, *, pace: float = 0.0) -> Iterator[Event]:
        """Transcribe a file, or 16 kHz mono samples (n,), through the live path; yields events as they come.

        `pace` 1.0 feeds it in real time; 0 feeds it as fast as possible, and overload then changes no event. Raises
        `ConfigError`, `GrammarError` and `AudioError` for bad settings and unreadable audio; a later fault is an
        `Error` among the events.
        """
        form, blocks = open_input(audio, _BLOCK_SECONDS)
        answers: SimpleQueue[Call] = SimpleQueue()
        driver = SessionDriver(
            self._new_session(config, form, None),
            self.engine,
            hand_over=answers.put,
            clock=time.monotonic,
            adaptive=pace > 0,
        )
        try:
            yield from _feed(driver, answers, form, blocks, pace)
        finally:
            driver.abandon()

    def transcribe(self, audio: AudioInput, config: SessionConfig | None = None) -> list[Final]:
        """Finals of a file, or of 16 kHz mono samples (n,), through the live path.

        Raises `ConfigError`, `GrammarError` and `AudioError`, and `EngineError` if the model failed on a part of it;
        `stream` also yields the finals of the rest.
        """
        finals: list[Final] = []
        errors: list[Error] = []
        for event in self.stream(audio, config):
            if isinstance(event, Final):
                finals.append(event)
            elif isinstance(event, Error):
                errors.append(event)
        if errors:
            kind = EngineError if errors[0].code == EngineError.code else AudioError
            raise kind(errors[0].message, code=errors[0].code)
        return finals

    def offline(self, audio: AudioInput, config: SessionConfig | None = None) -> Final | None:
        """One pass over all of the audio with full context and no gate; None without words.

        Memory grows with the square of the length: for minutes, not hours. Raises `ConfigError`, `GrammarError`,
        `AudioError` and `EngineError`.
        """
        config = msgspec.structs.replace(config or SessionConfig(), vad="none")
        choice = Decodings(self._language_set(config), config).newest
        form, blocks = open_input(audio, _BLOCK_SECONDS)
        decoder = AudioDecoder(form)
        samples = np.concatenate([*(decoder.receive(block) for block in blocks), decoder.flush()])
        if len(samples) < FIELD:
            raise AudioError(too_short(len(samples)), code="audio_too_short")
        decoding = choice.only or choice.decodings[self._identify(samples, choice, config)]
        whole = normalize(samples) if self.encoder.normalized else samples
        rows = self._encode(whole, decoding.language)
        transcript = decoding.final(len(samples))(rows)
        return report_final(transcript, decoding, utterance=0, start=0, end=len(samples))

    def _identify(self, samples: NDArray[np.float32], choice: Choice, config: SessionConfig) -> str:
        """The language of an utterance of these samples, as a session finds it."""
        question = Identification(
            0,
            0,
            config,
            choice.decider(),
            make_lock(config),
            read=lambda start, end: samples[start:end],
            next_id=count(1).__next__,
            normalized=self.encoder.normalized,
        )
        while question.decision is None:
            for job in question.plan(known=len(samples), closed=len(samples), now=time.monotonic()):
                question.receive(job.id, self._encode(job.samples, job.language))
        return question.decision.language

    def _encode(self, samples: NDArray[np.float32], language: str | None) -> NDArray[np.float32]:
        options: dict[str, Any] = {} if language is None else {"language": language}
        return self.engine.submit(samples, deadline=time.monotonic(), **options).result()

    def _language_set(self, config: SessionConfig) -> LanguageSet:
        """The session's languages; of a checkpoint without several, the only one."""
        found = self.languages(config.language, config.allowed_languages)
        return found or LanguageSet({None: (self.encoder.vocabulary, self.assets)})

    def close(self, timeout: float | None = None) -> None:
        """Stop the engine; open sessions get errors. Waits for the batch under way, at most `timeout` seconds."""
        self.engine.close(timeout)
        self._compiler.shutdown(wait=False, cancel_futures=True)
        self._loader.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_session(
        self, config: SessionConfig | None, audio: AudioFormat | None, name: str | None, level: Level = Level.NORMAL
    ) -> Session:
        config = config or SessionConfig()
        return Session(
            self.encoder.vocabulary,
            config,
            audio,
            vad=make_vad(config.vad),
            normalized=self.encoder.normalized,
            modes=self.info.modes,
            name=name or uuid.uuid4().hex[:12],
            model=self.info.name,
            assets=self.assets,
            languages=self._language_set(config),
            level=level,
        )


def _feed(
    driver: SessionDriver,
    answers: SimpleQueue[Call],
    form: AudioFormat,
    blocks: Iterator[NDArray[np.floating]],
    pace: float,
) -> Iterator[Event]:
    """Feed blocks of audio to a session, at a pace or as the engine allows; yield its events."""
    session = driver.session
    started, fed = time.monotonic(), 0
    yield from driver.pump()
    for block in blocks:
        fed += len(block)
        while pace > 0 and (early := started + fed / form.sample_rate / pace - time.monotonic()) > 0:
            _wait(driver, answers, early)
            yield from driver.pump()
        while driver.unanswered >= _IN_FLIGHT or not session.can_take(block):
            _wait(driver, answers)
            yield from driver.pump()
        driver.receive_audio(block)
        yield from driver.pump()
    session.receive_eof(time.monotonic())
    yield from driver.pump()
    while not session.ended:
        _wait(driver, answers)
        yield from driver.pump()


def _wait(driver: SessionDriver, answers: SimpleQueue[Call], timeout: float | None = None) -> None:
    """Wait for an answer, at most `timeout` seconds, and take all that are there."""
    if timeout is None and not driver.unanswered:
        raise RuntimeError("the session waits, but none of its jobs is unanswered")
    with suppress(Empty):
        answers.get(timeout=timeout)()
        while True:
            answers.get_nowait()()
