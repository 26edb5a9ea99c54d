"""`xlsr-live calibrate --language auto`: fit the probabilities of languages to recordings in each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from ...streaming.config import SessionConfig
from ...streaming.ctc.calibration import (
    FILE,
    Calibration,
    LanguageScale,
    fit_languages,
    save_calibration,
)
from ...streaming.frames import SAMPLE_RATE
from ...streaming.languages import resolve
from ...streaming.session.deciders import token_levels
from ..console import writing

if TYPE_CHECKING:
    from ...streaming.recognizer import Recognizer
    from ..bench.corpus import CorpusRecording

_DEFAULT: Final = SessionConfig()
_FOLDS: Final = 5
SPEECH_MS: Final = (_DEFAULT.language_least_ms + _DEFAULT.language_hold_ms, _DEFAULT.language_wait_ms)  # judged at


def read_spoken(table: Path, known: tuple[str, ...], model: str) -> dict[str, list[CorpusRecording]]:
    """The recordings of a table by their language, in the model's codes. Raises `CorpusError` and `ConfigError`."""
    from ..bench.corpus import CorpusError, column, read_corpus, read_rows

    if not table.is_file():
        raise CorpusError(f"{table} is no table: to calibrate languages, one with a column language is needed")
    header, rows = read_rows(table)
    name = column(table, header, ("language", "locale"))
    found: dict[str, list[CorpusRecording]] = {}
    for each in sorted({row[name] for row in rows}):
        found.setdefault(resolve(each, known, model), []).extend(read_corpus(table, where=(f"{name}={each}",)))
    if len(found) < 2:
        raise CorpusError(f"{table} has recordings in {', '.join(found)} only; two languages or more are needed")
    return found


def collect_levels(
    recognizer: Recognizer, spoken: Mapping[str, Sequence[CorpusRecording]], advance: Callable[[], None]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Levels (examples, languages) of the beginnings of all recordings, the column of the language of each, and the
    number of its recording within that language.

    Each recording begins with speech. One that is shorter than a beginning counts as it is.
    """
    from ..bench.corpus import read_samples

    levels: list[list[float]] = []
    places: list[int] = []
    numbers: list[int] = []
    for place, language in enumerate(spoken):
        for number, recording in enumerate(spoken[language]):
            samples = read_samples(recording)
            for length in {min(len(samples), SAMPLE_RATE * ms // 1000) for ms in SPEECH_MS}:
                levels.append(levels_of(recognizer, samples[:length], tuple(spoken)))
                places.append(place)
                numbers.append(number)
            advance()
    return np.array(levels), np.array(places, np.intp), np.array(numbers, np.intp)


def levels_of(recognizer: Recognizer, samples: NDArray[np.float32], languages: Sequence[str]) -> list[float]:
    """The level of 16 kHz samples (n,) in each language."""
    loaded = [recognizer.languages.load(language)[language][0] for language in languages]
    normalized, now = recognizer.encoder.normalize(samples), time.monotonic()
    asked = [recognizer.engine.submit(normalized, deadline=now, language=language) for language in languages]
    pairs = zip(asked, loaded, strict=True)
    return [float(token_levels(rows.result(), vocabulary)[-1]) for rows, vocabulary in pairs]


def fit(
    recognizer: Recognizer,
    spoken: Mapping[str, Sequence[CorpusRecording]],
    model: Path,
    out: Path | None,
    advance: Callable[[], None],
) -> None:
    """Fit the scales, write them, and print how often the language is right before and after, in cross-validation.

    They join the calibrations of the checkpoint in `model`; with `out`, that folder gets one for each language.
    """
    levels, places, numbers = collect_levels(recognizer, spoken, advance)
    for language, scale in zip(spoken, fit_languages(levels, places), strict=True):
        before = recognizer.languages.load(language)[language][1].calibration
        own = out / language if out else _own_folder(model, language, recognizer)
        own.mkdir(parents=True, exist_ok=True)
        with writing(own / FILE):
            save_calibration(own, msgspec.structs.replace(before or Calibration(), language=scale))
        click.echo(f"written: {own / FILE}")
    shares = {"default scales": right(levels, places, [LanguageScale()] * len(spoken))}
    if (folds := min(_FOLDS, *(len(each) for each in spoken.values()))) > 1:
        shares["fitted"] = cross_validated(levels, places, numbers % folds)
    for name, share in shares.items():
        click.echo(f"{name}: {100 * share:.1f} % of {len(places)} beginnings in the right language")


def _own_folder(model: Path, language: str, recognizer: Recognizer) -> Path:
    """Where a checkpoint holds a language's calibration: beside it, if it is the default language without a folder."""
    own, many = model / "languages" / language, recognizer.encoder.languages
    return model if many and language == many.default and not own.is_dir() else own


def right(levels: NDArray[np.float64], places: NDArray[np.intp], scales: Sequence[LanguageScale]) -> float:
    """Share of examples whose most probable language is the right one."""
    scores = np.column_stack([scale(levels[:, each]) for each, scale in enumerate(scales)])
    return float((scores.argmax(axis=1) == places).mean())


def cross_validated(levels: NDArray[np.float64], places: NDArray[np.intp], fold: NDArray[np.intp]) -> float:
    """The same, each fold with scales that were fitted on the others."""
    found = np.zeros(len(places))
    for each in np.unique(fold):
        own, others = fold == each, fold != each
        found[own] = right(levels[own], places[own], fit_languages(levels[others], places[others]))
    return float(found.mean())
