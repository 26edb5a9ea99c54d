"""Load a model once and open any number of sessions.

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
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .audio.files import AudioInput, open_input
from .audio.vad import make_vad
from .captions.punctuation import Punctuate, punctuate_pauses
from .commands.compiled import compiled
from .config import AUTO, AudioFormat, ModelOptions, Origin, SessionConfig, check_language_choice
from .ctc.assets import Assets
from .ctc.languages import LanguageSet
from .ctc.vocabulary import Vocabulary
from .driver import Call, SessionDriver, Translate
from .engine.engine import Engine
from .engine.service import EngineService
from .errors import AudioError, ConfigError, EngineError
from .feed import feed
from .known_models import language_of
from .live import StreamSession
from .model_languages import Classes, ModelLanguages
from .model_parts import RunningModel, load_parts
from .offline import recognize_offline
from .overload import Level
from .progress import Report, unreported
from .protocol.events import Error, Event, Final
from .session.session import Session
from .translation.load import load_translation
from .translation.routes import target_languages
from .translation.service import TranslationService
from .translation.session import SessionTranslator

if TYPE_CHECKING:
    from .model.encoder import XlsrEncoder
    from .model.info import ModelInfo


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
        classes: Classes | None = None,
        translate_from: str | None = None,
        punctuate: Punctuate = punctuate_pauses,
        engine: EngineService | None = None,
    ) -> None:
        self.encoder = encoder
        self.punctuate = punctuate
        self.assets = assets or Assets()
        name, only = encoder.info.name, (encoder.info.language, encoder.vocabulary, self.assets)
        self.languages = ModelLanguages(name, encoder.languages, only, language, allowed_languages, classes)
        if language == AUTO:
            self.languages.codes()  # refuse them now, not in each session
        self.translation: TranslationService | None = None  # closed with the recognizer
        self._translate_from = translate_from
        self.engine: EngineService = engine or Engine(encoder, adaptive=adaptive)
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
        punctuation_model: str | None = None,
        allowed_languages: Sequence[str] = (),
        lid: str | None = None,
        translators: Sequence[str] = (),
        translate_from: str | None = None,
        translate_beams: int = 1,
        translate_max_lag: float = 10.0,
    ) -> Self:
        """Load "bundled", a local directory, or a Hugging Face name (pinned by `revision`).

        - `language`: of sessions that name none, with a multilingual checkpoint such as MMS; or "auto", with
          `allowed_languages`.
        - `lid`: folder or Hugging Face name of a checkpoint that identifies the language for "auto", such as MMS-LID,
          or of its head alone, over the model's encoder. None: the model's confidence in each language decides.
        - `device`: auto, cpu, cuda, cuda:1; `dtype`: auto, float32, bfloat16, float16, int8 (some processors lack it).
        - `threads`: torch's threads for the whole process. A small model on a CPU gets one by default.
        - `max_batch`: maximum number of utterances in one call of the model. By default 64 on a GPU and one on a CPU,
          where a batch saves little; there, four live steps of a model of 200 million parameters or more.
        - `adaptive`: while answers are late, sessions send fewer partials (`Level`); finals stay the same.
        - `lm`: file or folder of a language model, "bundled" or "none"; `calibration`: file or folder; None: its own.
        - `punctuation_model`: folder or Hugging Face name. None: capitals and full stops by a rule.
        - `translators`: what translates finals for sessions with `translate_to`: "apertium", or folders or Hugging Face
          names of sequence-to-sequence checkpoints. The first that knows a pair of languages is used.
        - `translate_from`: language of the speech, if the checkpoint does not say it; `translate_beams`: 1 is greedy.
        - `translate_max_lag`: seconds after a final; a translation that would be later is skipped.

        Raises `ModelError`, `ConfigError` and `LanguageModelError`.
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
            punctuation_model=punctuation_model,
            allowed_languages=tuple(allowed_languages),
            lid=lid,
            translators=tuple(translators),
            translate_from=translate_from,
            translate_beams=translate_beams,
            translate_max_lag=translate_max_lag,
        )
        return cls.from_options(options, adaptive=adaptive)

    @classmethod
    def from_options(
        cls,
        options: ModelOptions,
        *,
        adaptive: bool = True,
        report: Report = unreported,
        running: RunningModel | None = None,
    ) -> Self:
        """`load` with its options in one object, and the same errors. `report` gets the stages of the start.

        A model that is `running` in another process is not loaded here.
        """
        from .model.punctuation import load_punctuation

        check_language_choice(options.language, options.allowed_languages)
        punctuate = load_punctuation(options.punctuation_model)
        encoder, assets, classes = load_parts(options, report, running)
        recognizer = cls(
            encoder,
            assets,
            adaptive=adaptive,
            language=options.language,
            allowed_languages=options.allowed_languages,
            classes=classes,
            translate_from=options.translate_from,
            punctuate=punctuate,
            engine=None if running is None else running.engine,
        )
        try:
            recognizer.translation = load_translation(options, encoder.info.device)
        except BaseException:
            recognizer.close()
            raise
        return recognizer

    @property
    def info(self) -> ModelInfo:
        return self.encoder.info

    @property
    def room(self) -> int | None:
        """The number of sessions with default settings that can speak at the same time, by the memory for their caches;
        None if this checkpoint has none."""
        return self.encoder.room(SessionConfig())

    @property
    def spoken_language(self) -> str | None:
        """The language of the speech, where the model has one; None if it is unknown. Translators translate from it."""
        return self._translate_from or self.info.language or language_of(self.info.name)

    @property
    def translates_to(self) -> tuple[str, ...]:
        """BCP 47 tags of the languages that finals can be translated into."""
        return target_languages(self.translation.translators, self.spoken_language) if self.translation else ()

    def session(
        self,
        config: SessionConfig | None = None,
        audio: AudioFormat | None = None,
        *,
        name: str | None = None,
        complete_translations: bool = False,
        origin: Origin | None = None,
    ) -> StreamSession:
        """Open a stream in a running event loop. With an `origin` it continues the session of another server.

        A new grammar or language blocks the loop for a second or longer unless `prepare` was called. With
        `complete_translations` (for files) audio waits for translations, and none is skipped. Raises `GrammarError`,
        and `ConfigError` for bad settings and for settings that this checkpoint does not support.
        """
        return StreamSession(
            self._new_session(config, audio, name, self.engine.level, origin),
            self.engine,
            compile=self._compile_aside,
            languages=self._load_aside,
            translate=self._translate(config, complete=complete_translations),
        )

    async def prepare(self, config: SessionConfig) -> None:
        """Do in threads what would delay the event loop when a session with these settings opens: load its languages,
        compile its grammar. Raises `GrammarError`, `ConfigError` and `ModelError`.
        """
        languages = await self._load_aside(config.language, config.allowed_languages)
        if (vocabulary := languages.only) is not None:  # with several there is no grammar
            await self._compile_aside(config.grammar, vocabulary)

    async def _load_aside(self, language: str | None, allowed: Sequence[str]) -> LanguageSet:
        if not self.languages.known:
            return self.languages.load(language, allowed)
        return await asyncio.get_running_loop().run_in_executor(self._loader, self.languages.load, language, allowed)

    async def _compile_aside(self, grammar: str, vocabulary: Vocabulary) -> None:
        if grammar.strip():
            await asyncio.get_running_loop().run_in_executor(self._compiler, self._compile, grammar, vocabulary)

    def _compile(self, grammar: str, vocabulary: Vocabulary) -> None:
        begun = time.thread_time()
        try:
            compiled(grammar, vocabulary)
        finally:  # sleep after work: clients' grammars use at most a third of a core
            with suppress(RuntimeError):  # the recognizer was closed
                self._compiler.submit(time.sleep, 2 * (time.thread_time() - begun))

    def stream(self, audio: AudioInput, config: SessionConfig | None = None, *, pace: float = 0.0) -> Iterator[Event]:
        """Transcribe a file, or 16 kHz mono samples (n,), through the live path; yields events as they come.

        `pace` 1.0 feeds it in real time; 0 feeds it as fast as possible, and overload then does not change events.
        Raises `ConfigError`, `GrammarError` and `AudioError` for bad settings and unreadable audio; a later fault
        becomes an `Error` event.
        """
        form, blocks = open_input(audio)
        answers: SimpleQueue[Call] = SimpleQueue()
        driver = SessionDriver(
            self._new_session(config, form, None),
            self.engine,
            hand_over=answers.put,
            clock=time.monotonic,
            adaptive=pace > 0,
            translate=self._translate(config, complete=pace == 0),
        )
        try:
            yield from feed(driver, answers, form, blocks, pace)
        finally:
            driver.abandon()

    def transcribe(self, audio: AudioInput, config: SessionConfig | None = None) -> list[Final]:
        """Finals of a file, or of 16 kHz mono samples (n,), through the live path.

        Raises `ConfigError`, `GrammarError` and `AudioError`, and `EngineError` if the model fails on a part of it; use
        `stream` to get the finals of the other parts.
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
        """Encode all of the audio in one pass, with full context and without a gate; None if there are no words.

        Memory grows with the square of its length. Raises `ConfigError`, `GrammarError`, `AudioError`, `EngineError`.
        """
        config = config or SessionConfig()
        return recognize_offline(self.encoder, self.engine, self.languages, audio, config, self.punctuate)

    def close(self, timeout: float | None = None) -> None:
        """Stop the engine; open sessions get errors. Waits at most `timeout` seconds for the current batch."""
        self.engine.close(timeout)
        if self.translation is not None:
            self.translation.close()
        self._compiler.shutdown(wait=False, cancel_futures=True)
        self._loader.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _translate(self, config: SessionConfig | None, *, complete: bool) -> Translate | None:
        """Raises `ConfigError` for translations without a translator."""
        if config is None or not config.translate_to:
            return None
        if self.translation is None:
            raise ConfigError("translate_to: there is no translator; load the recognizer with one (--translator)")
        spoken = self.languages.codes(config.language, config.allowed_languages)[0] or self.spoken_language
        return partial(SessionTranslator, self.translation, config.translate_to, spoken, complete)

    def _new_session(
        self,
        config: SessionConfig | None,
        audio: AudioFormat | None,
        name: str | None,
        level: Level = Level.NORMAL,
        origin: Origin | None = None,
    ) -> Session:
        config = config or SessionConfig()
        return Session(
            self.encoder.vocabulary,
            config,
            audio,
            vad=make_vad(config.vad),
            normalized=self.encoder.normalized,
            epsilon=self.encoder.epsilon,
            modes=self.info.modes,
            lookahead_ms=self.info.lookahead_ms,
            name=name or uuid.uuid4().hex[:12],
            model=self.info.name,
            assets=self.assets,
            languages=self.languages.load(config.language, config.allowed_languages),
            level=level,
            origin=origin,
            punctuate=self.punctuate,
        )
