"""The front door: load a model once, open as many sessions as you like.

recognizer = Recognizer.load("bundled")
for final in recognizer.transcribe("talk.wav"):
    print(final.text)
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from .audio.decoder import AudioDecoder
from .audio.files import AudioInput, open_input
from .audio.normalize import normalize
from .audio.vad import make_vad
from .commands.matcher import compiled
from .config import AudioFormat, ModelOptions, SessionConfig
from .ctc.assets import Assets
from .engine.engine import Engine
from .errors import AudioError, EngineError, XlsrLiveError
from .frames import FIELD, too_short
from .live import StreamSession
from .overload import Level
from .protocol.events import Error, Event, Final
from .session.decoding import Decoding
from .session.session import Session
from .session.to_events import report_final

if TYPE_CHECKING:
    from .model.encoder import ModelInfo, XlsrEncoder

_BLOCK_SECONDS = 0.1
_IN_FLIGHT = 8  # requests that a file keeps the engine supplied with


class Recognizer:
    """A loaded model and the thread that runs it. Weights are shared by all sessions, state is each session's own.

    Close it when done, or use it as a context manager.
    """

    def __init__(self, encoder: XlsrEncoder, assets: Assets | None = None, *, adaptive: bool = True) -> None:
        self.encoder = encoder
        self.assets = assets or Assets()
        self.engine = Engine(encoder, adaptive=adaptive)
        self._compiler = ThreadPoolExecutor(1, "compile")  # for grammars

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
    ) -> Self:
        """Load "bundled", a local directory, or a Hugging Face name (pinned by `revision`).

        `language` picks an adapter of a multilingual checkpoint such as MMS. `device` is auto, cpu or cuda; `dtype`
        auto, float32, bfloat16, float16 or int8 (on some processors). `threads` of torch, for the whole process: on a
        CPU one for a small model, which gains nothing from more, else torch's own choice. At most `max_batch`
        utterances share a call of the model: 64 on a GPU, one on a CPU, where more save nothing and would change the
        last bits of each other's numbers. `adaptive` sessions give up partials, never finals, while answers come too
        late (`Level`). `lm` is the file or folder of a language model, "bundled" or "none"; None: the checkpoint's own,
        if it has one. `calibration` is the file or folder of one; None: the checkpoint's own. Raises `ModelError` and
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
        )
        return cls.from_options(options, adaptive=adaptive)

    @classmethod
    def from_options(cls, options: ModelOptions, *, adaptive: bool = True) -> Self:
        """`load` with its options in one object. Raises `ModelError` and `LanguageModelError`."""
        from .model.assets import load_assets
        from .model.load import find_source, load

        source = find_source(options.model, options.revision)
        encoder = load(options, source)
        return cls(encoder, load_assets(source, encoder.vocabulary, options.lm, options.calibration), adaptive=adaptive)

    @property
    def info(self) -> ModelInfo:
        return self.encoder.info

    def session(
        self, config: SessionConfig | None = None, audio: AudioFormat | None = None, *, name: str | None = None
    ) -> StreamSession:
        """Open a stream. Must be called in a running event loop, which waits while a new grammar is compiled: up to a
        second, where `prepare` has not done it. Raises `ConfigError`, also for what this checkpoint cannot do, and
        `GrammarError`.
        """
        session = self._new_session(config, audio, name, self.engine.level)
        return StreamSession(session, self.engine, prepare=self.prepare)

    async def prepare(self, grammar: str) -> None:
        """Compile a grammar of commands in a thread, so that it is there when a session asks for it.

        Raises `GrammarError`.
        """
        if grammar.strip():
            await asyncio.get_running_loop().run_in_executor(self._compiler, self._compile, grammar)

    def _compile(self, grammar: str) -> None:
        begun = time.thread_time()
        try:
            compiled(grammar, self.encoder.vocabulary)
        finally:  # whatever clients send, grammars take a third of a core at most
            with suppress(RuntimeError):  # the recognizer was closed
                self._compiler.submit(time.sleep, 2 * (time.thread_time() - begun))

    def stream(self, audio: AudioInput, config: SessionConfig | None = None, *, pace: float = 0.0) -> Iterator[Event]:
        """A file, or 16 kHz mono samples (n,), through the live path; events as they happen.

        `pace` 1.0 feeds it in real time, 0 as fast as it is heard: then nobody waits, and nothing is given up however
        busy the engine is. Raises `ConfigError`, `GrammarError` and `AudioError` for what cannot be begun or read; what
        goes wrong after that is an `Error` among the events.
        """
        form, blocks = open_input(audio, _BLOCK_SECONDS)
        driver = _Driver(self._new_session(config, form, None), self.engine)
        try:
            yield from self._drive(driver, form, blocks, pace)
        finally:
            driver.abandon()

    @staticmethod
    def _drive(
        driver: _Driver, form: AudioFormat, blocks: Iterator[NDArray[np.floating]], pace: float
    ) -> Iterator[Event]:
        started, fed = time.monotonic(), 0
        yield from driver.events()
        for block in blocks:
            fed += len(block)
            while pace > 0 and (early := started + fed / form.sample_rate / pace - time.monotonic()) > 0:
                driver.wait(early)
                yield from driver.events()
            while not driver.ready(block):
                driver.wait()
                yield from driver.events()
            if pace > 0:
                driver.session.receive_level(driver.level)
            driver.session.receive_audio(block, time.monotonic())
            yield from driver.events()
        driver.session.receive_eof(time.monotonic())
        yield from driver.events()
        while not driver.session.ended:
            driver.wait()
            yield from driver.events()

    def transcribe(self, audio: AudioInput, config: SessionConfig | None = None) -> list[Final]:
        """Finals of a file, or of 16 kHz mono samples (n,), by the live path.

        Raises `ConfigError`, `GrammarError` and `AudioError`, and `EngineError` if the model failed on a part of it:
        the finals of the rest are among the events of `stream`.
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
        """One pass over all of the audio with full context and no gate; None if no word was heard.

        Memory grows with the square of the length: for minutes, not hours. Raises `ConfigError`, `GrammarError`,
        `AudioError` and `EngineError`.
        """
        vocabulary = self.encoder.vocabulary
        decoding = Decoding(vocabulary, config or SessionConfig(), self.assets)
        form, blocks = open_input(audio, _BLOCK_SECONDS)
        decoder = AudioDecoder(form)
        samples = np.concatenate([*(decoder.receive(block) for block in blocks), decoder.flush()])
        if len(samples) < FIELD:
            raise AudioError(too_short(len(samples)), code="audio_too_short")
        rows = self.engine.submit(
            normalize(samples) if self.encoder.normalized else samples, deadline=time.monotonic()
        ).result()
        heard = decoding.final(len(samples))(rows)
        return report_final(heard, vocabulary, utterance=0, start=0, end=len(samples))

    def close(self, timeout: float | None = None) -> None:
        """Stop the engine; sessions still open get errors. Waits for what it is at, at most `timeout` seconds."""
        self.engine.close(timeout)
        self._compiler.shutdown(wait=False, cancel_futures=True)

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
            level=level,
        )


class _Driver:
    """Carries one session's requests to the engine and the answers back, without an event loop."""

    def __init__(self, session: Session, engine: Engine) -> None:
        self.session = session
        self._engine = engine
        self._running: dict[Future[NDArray[np.float32]], int] = {}

    @property
    def level(self) -> Level:
        return self._engine.level

    def ready(self, block: NDArray[np.floating]) -> bool:
        """Whether more audio should be fed now."""
        return len(self._running) < _IN_FLIGHT and self.session.can_take(block)

    def events(self) -> list[Event]:
        """Submit what the session asks for; return what happened."""
        for request in self.session.requests():
            wanted = partial(self.session.wants, request.id)
            future = self._engine.submit(request.samples, deadline=request.deadline, wanted=wanted, reuse=request.reuse)
            self._running[future] = request.id
        self._release()
        return self.session.events()

    def abandon(self) -> None:
        """Leave the session where it stands."""
        self.session.abandon()
        self._release()

    def _release(self) -> None:
        for memory in self.session.released():
            self._engine.release(memory)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for an answer, at most `timeout` seconds, and hand over all that are there."""
        if not self._running:
            if timeout is None:
                raise RuntimeError("the session waits for answers to requests that were never made")
            time.sleep(timeout)
            return
        done, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            request, now = self._running.pop(future), time.monotonic()
            try:
                self.session.receive_logprobs(request, future.result(), now)
            except CancelledError:
                pass
            except XlsrLiveError as error:
                self.session.receive_failure(request, str(error), now)
