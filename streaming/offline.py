"""Recognizes a whole recording in one pass with full context."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from .audio.decoder import AudioDecoder
from .audio.files import AudioInput, open_input
from .captions.punctuation import Punctuate
from .config import SessionConfig
from .engine.service import EngineService
from .errors import AudioError
from .frames import FIELD, too_short
from .model_languages import ModelLanguages
from .protocol.events import Final
from .requests import MULTIPLE
from .session.decodings import Choice, Decodings
from .session.identification import Identification
from .session.language_lock import make_lock
from .session.to_events import report_final

if TYPE_CHECKING:
    from .model.encoder import XlsrEncoder

Float32 = NDArray[np.float32]


def recognize_offline(
    encoder: XlsrEncoder,
    engine: EngineService,
    languages: ModelLanguages,
    audio: AudioInput,
    config: SessionConfig,
    punctuate: Punctuate,
) -> Final | None:
    """See `Recognizer.offline`."""

    def encode(samples: Float32, language: str | None) -> Float32:
        normalized = samples if language == MULTIPLE else encoder.normalize(samples)
        return engine.submit(normalized, deadline=time.monotonic(), language=language).result()

    choice = Decodings(languages.load(config.language, config.allowed_languages), config).newest
    form, blocks = open_input(audio)
    decoder = AudioDecoder(form)
    samples = np.concatenate([*(decoder.receive(block) for block in blocks), decoder.flush()])
    if len(samples) < FIELD:
        raise AudioError(too_short(len(samples)), code="audio_too_short")
    decoding = choice.only
    if decoding is None:
        question = _question(samples, choice, config)
        while question.decision is None:
            for job in question.plan(known=len(samples), closed=len(samples), now=time.monotonic()):
                question.receive(job.id, encode(job.samples, job.language))
        decoding = choice.decodings[question.decision.language]
    transcript = decoding.final(len(samples))(encode(samples, decoding.language))
    final = report_final(transcript, decoding, utterance=0, start=0, end=len(samples))
    if final is None or not config.punctuation:
        return final
    return msgspec.structs.replace(final, display_text=punctuate(final.text, True))


def _question(samples: Float32, choice: Choice, config: SessionConfig) -> Identification:
    """Which language these samples have, asked as a session asks it; they are normalized later."""
    return Identification(
        0,
        0,
        config,
        choice.decider(),
        make_lock(config),
        lead=0,
        read=lambda start, end: samples[start:end],
        next_id=count(1).__next__,
        normalized=False,
    )
