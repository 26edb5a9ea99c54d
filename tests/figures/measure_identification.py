"""Figures of a multilingual checkpoint: `python -m tests.figures.measure_identification MODEL DATA [--lid MODEL]`.

DATA is the folder `speech` of `training.recipe.multilingual`: a test.tsv for each language, whose voices read several
languages. Real speech of the test collection joins it: English (kathleen, librispeech) and German (kerstin). Prints
Markdown tables:

- error rates of finals in the right language, alone and with one session for each language at once; both must be equal;
- how often the most probable of all languages is the right one after 1, 2, 3 and 5 s of speech, by confidence or, with
  --lid, by an identification model;
- recordings in which German and English utterances alternate, with `auto`: utterances in the right language, speech
  until the decision, error rates beside those in the right languages.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm
from xlsr_live.client.bench.corpus import CorpusRecording, read_corpus, read_samples
from xlsr_live.client.bench.scoring import ErrorCount, TextNormalizer, interval, rate
from xlsr_live.client.bench.tables import Table, describe, machine, percent
from xlsr_live.client.commands.calibrate_languages import levels_of
from xlsr_live.streaming import Recognizer, SessionConfig
from xlsr_live.streaming.ctc.calibration import LanguageScale
from xlsr_live.streaming.protocol.events import Event, Final, LanguageIdentified, Partial
from xlsr_live.streaming.requests import MULTIPLE
from xlsr_live.streaming.session.deciders import HeadDecider

from tests.support.speech import listed

RATE = 16_000
PARTS = ("words", "identification", "alternation")
SECONDS = (1, 2, 3, 5)
REAL = {"eng": ("kathleen", "librispeech"), "deu": ("german",)}
PAUSE = 1.0  # seconds between the utterances of a recording with two languages
UTTERANCES = 6  # in such a recording
PACKET = 1_600

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spoken:
    language: str
    kind: str  # "synthetic" or "real"
    text: str
    samples: Float32


def load(data: Path, languages: Sequence[str], most: int) -> list[Spoken]:
    found: list[Spoken] = []
    for language in languages:
        rows = read_corpus(data / language / "test.tsv", limit=most)
        found += [Spoken(language, "synthetic", row.text, read_samples(row)) for row in rows]
        real = [CorpusRecording(*pair) for name in REAL.get(language, ()) for pair in listed(name)]
        real = real[:: max(1, len(real) // most)][:most]
        found += [Spoken(language, "real", row.text, read_samples(row)) for row in real]
    return found


async def events_of(recognizer: Recognizer, samples: Float32, config: SessionConfig) -> list[tuple[float, Event]]:
    """The events of one session, each with the seconds of audio that the session had when it came."""
    session = recognizer.session(config)
    events: list[tuple[float, Event]] = []

    async def listen() -> None:
        async for event in session:
            events.append((session.received_s, event))

    async with session:
        listening = asyncio.create_task(listen())
        for at in range(0, len(samples), PACKET):
            await session.send(samples[at : at + PACKET])
            await session.settle()
        await session.end()
        await listening
    return events


def text_of(events: Sequence[tuple[float, Event]]) -> str:
    return " ".join(event.text for _, event in events if isinstance(event, Final))


async def together(recognizer: Recognizer, spoken: Sequence[Spoken]) -> list[str]:
    """Finals of sessions that run at once."""
    configs = [SessionConfig(language=each.language) for each in spoken]
    pairs = zip(spoken, configs, strict=True)
    return [text_of(each) for each in await asyncio.gather(*(events_of(recognizer, s.samples, c) for s, c in pairs))]


def measure_words(recognizer: Recognizer, spoken: Sequence[Spoken], sessions: int) -> Table:
    """Error rates in the right language; a batch of several languages must give the text of each alone."""
    alone = [asyncio.run(together(recognizer, [each]))[0] for each in tqdm(spoken, "alone")]
    order = np.random.default_rng(1).permutation(len(spoken))
    mixed = dict[int, str]()
    for at in tqdm(range(0, len(order), sessions), f"{sessions} sessions at once"):
        places = order[at : at + sessions].tolist()
        mixed |= dict(zip(places, asyncio.run(together(recognizer, [spoken[p] for p in places])), strict=True))
    equal = sum(alone[place] == mixed[place] for place in range(len(spoken)))
    rows: list[Sequence[str]] = []
    for language, kind in dict.fromkeys((each.language, each.kind) for each in spoken):
        own = [place for place, each in enumerate(spoken) if (each.language, each.kind) == (language, kind)]
        normalizer = TextNormalizer(recognizer.languages.vocabulary(language))
        scores = [normalizer.score(spoken[place].text, alone[place]) for place in own]
        words, characters = ([pair[unit] for pair in scores] for unit in (0, 1))
        rows.append((language, kind, str(len(own)), _rate(words), percent(rate(characters))))
    print(f"{equal} of {len(spoken)} texts of mixed batches are those of each session alone\n")
    return Table("Words in the right language", ("language", "speech", "recordings", "WER", "CER"), rows)


Scores = tuple[NDArray[np.float64], NDArray[np.float64]]  # of each language; those without the calibration


def by_confidence(recognizer: Recognizer, samples: Float32, languages: Sequence[str]) -> Scores:
    found = recognizer.languages.load("auto", languages)
    scales = [((own := found[each][1].calibration) and own.language) or LanguageScale() for each in languages]
    levels = np.array(levels_of(recognizer, samples, languages))
    return np.array([scale(level) for scale, level in zip(scales, levels, strict=True)]), levels


def by_head(recognizer: Recognizer, samples: Float32, languages: Sequence[str]) -> Scores:
    decider = HeadDecider(recognizer.languages.load("auto", languages).classes or {})
    rows = recognizer.engine.submit(samples, deadline=time.monotonic(), language=MULTIPLE).result()
    shares = decider.shares([rows])[-1]
    return shares, shares


def measure_identification(
    recognizer: Recognizer, spoken: Sequence[Spoken], languages: Sequence[str], plot: Path | None
) -> Table:
    """Share of beginnings whose most probable language is the right one."""
    scores_of = by_head if recognizer.languages.load("auto", languages).classes else by_confidence
    kinds = list(dict.fromkeys((each.language, each.kind) for each in spoken))
    confusion = {seconds: np.zeros((len(kinds), len(languages)), int) for seconds in SECONDS}
    beside = dict.fromkeys(SECONDS, 0.0)  # shares of the other languages that are less probable
    plain = dict.fromkeys(SECONDS, 0)
    for row, pair in enumerate(tqdm(kinds, "identifying")):
        own = [each.samples for each in spoken if (each.language, each.kind) == pair]
        for at in range(len(own)):
            joined = np.concatenate([*own[at:], *own[:at]])  # enough speech from each recording on
            for seconds in SECONDS:
                scores, raw = scores_of(recognizer, joined[: seconds * RATE], languages)
                place = languages.index(pair[0])
                confusion[seconds][row, int(np.argmax(scores))] += 1
                beside[seconds] += float((np.delete(scores, place) < scores[place]).mean())
                plain[seconds] += int(np.argmax(raw)) == place
    rows: list[list[str]] = []
    for row, (language, kind) in enumerate(kinds):
        right = [confusion[each][row, languages.index(language)] / confusion[each][row].sum() for each in SECONDS]
        rows.append([language, kind, str(confusion[1][row].sum()), *map(percent, right)])
    columns = ("language", "speech", "beginnings", *(f"{each} s" for each in SECONDS))
    total = confusion[1].sum()
    notes = [
        f"{name}: " + ", ".join(f"{each} s {percent(counts[each] / total)}" for each in SECONDS)
        for name, counts in (("without calibration", plain), ("beside one other language", beside))
    ]
    if plot:
        draw(plot, confusion, [f"{language}, {kind}" for language, kind in kinds], languages)
    return Table("Right language of six", columns, rows, notes)


def draw(path: Path, confusion: dict[int, NDArray[np.intp]], spoken: Sequence[str], languages: Sequence[str]) -> None:
    """Confusion matrices: what was spoken, and the most probable language."""
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    for axes, (seconds, counts) in zip(figure.subplots(2, 2).flat, confusion.items(), strict=True):
        shares = 100 * counts / counts.sum(axis=1, keepdims=True)
        axes.imshow(shares, vmin=0, vmax=100, cmap="Blues", aspect="auto")
        axes.set_xticks(range(len(languages)), languages)
        axes.set_yticks(range(len(spoken)), spoken)
        axes.set_title(f"after {seconds} s of speech (%)")
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 50 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=100)


@dataclass(slots=True)
class Alternation:
    """Counts over recordings in which two languages alternate."""

    utterances: int = 0
    right: int = 0
    undecided: int = 0  # events that say und
    flips: int = 0  # texts in another language than that of the utterance's event
    waits: list[float] = field(default_factory=list[float])  # seconds of audio from an utterance's start to its event
    auto: list[ErrorCount] = field(default_factory=list[ErrorCount])
    oracle: list[ErrorCount] = field(default_factory=list[ErrorCount])


def measure_alternation(recognizer: Recognizer, spoken: Sequence[Spoken], pair: tuple[str, str]) -> Table:
    """Utterances of two languages in turns, real speech, with `auto` and with the right language of each."""
    found = Alternation()
    of = [[each for each in spoken if each.language == language and each.kind == "real"] for language in pair]
    turns = [each for both in zip(*of, strict=False) for each in both]
    if len(turns) < UTTERANCES:
        raise SystemExit(f"alternation needs {UTTERANCES // 2} real recordings of each language")
    silence = np.random.default_rng(1).normal(0, 1e-4, int(PAUSE * RATE)).astype(np.float32)
    for at in tqdm(range(0, len(turns) - UTTERANCES + 1, UTTERANCES), "alternating"):
        _alternate(recognizer, turns[at : at + UTTERANCES], silence, pair, found)
    low, high = (f"{quantile:.1f}" for quantile in np.percentile(found.waits, (50, 95)))
    rows = [
        ("utterances", str(found.utterances)),
        ("in the right language", percent(found.right / found.utterances)),
        ("events that say und", str(found.undecided)),
        ("texts in another language than their event", str(found.flips)),
        ("audio until the event (s), median and 95 %", f"{low}, {high}"),
        ("WER with auto", _rate(found.auto)),
        ("WER in the right languages", _rate(found.oracle)),
    ]
    return Table(f"Alternating {pair[0]} and {pair[1]}", ("", "auto"), rows)


def _alternate(
    recognizer: Recognizer, turns: Sequence[Spoken], silence: Float32, pair: tuple[str, str], found: Alternation
) -> None:
    pieces = [silence]
    spans: list[tuple[float, float, Spoken]] = []
    for each in turns:
        begun = sum(map(len, pieces)) / RATE
        pieces += [each.samples, silence]
        spans.append((begun, begun + len(each.samples) / RATE, each))
    whole = np.concatenate(pieces)
    auto = asyncio.run(events_of(recognizer, whole, SessionConfig(language="auto", allowed_languages=pair)))
    alone = {each: asyncio.run(events_of(recognizer, whole, SessionConfig(language=each))) for each in pair}
    told = {event.utterance: (event, had) for had, event in auto if isinstance(event, LanguageIdentified)}
    finals = [event for _, event in auto if isinstance(event, Final)]
    found.undecided += sum(event.language == "und" for event, _ in told.values())
    found.waits += [had - event.start for event, had in told.values()]
    for _, event in auto:
        if isinstance(event, Partial | Final) and (language := told[event.utterance][0].language) != "und":
            found.flips += event.language != language
    for final in finals:
        spoken = max(spans, key=lambda span: min(final.end, span[1]) - max(final.start, span[0]))[2]
        found.utterances += 1
        found.right += final.language == spoken.language
    for begun, ended, each in spans:
        normalizer = TextNormalizer(recognizer.languages.vocabulary(each.language))
        for events, errors in ((auto, found.auto), (alone[each.language], found.oracle)):
            inside = [e for _, e in events if isinstance(e, Final) and begun < (e.start + e.end) / 2 < ended]
            errors.append(normalizer.score(each.text, " ".join(e.text for e in inside))[0])


def _rate(counts: Sequence[ErrorCount]) -> str:
    low, high = interval(counts)
    return f"{percent(rate(counts))} ({percent(low)} to {percent(high)})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.figures.measure_identification", description=__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--lid", metavar="MODEL", help="identify by this model instead of by confidence")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="confusion matrices")
    parser.add_argument("--most", type=int, default=14, help="recordings of each language and kind")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="tables to make (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with Recognizer.load(args.model, device="cpu", threads=args.threads, lid=args.lid) as recognizer:
        languages = recognizer.languages.known
        spoken = load(args.data, languages, args.most)
        tables: list[Table] = []
        if "words" in args.parts:
            tables.append(measure_words(recognizer, spoken, len(languages)))
        if "identification" in args.parts:
            tables.append(measure_identification(recognizer, spoken, languages, args.plot))
        if "alternation" in args.parts:
            tables.append(measure_alternation(recognizer, spoken, ("deu", "eng")))
    for table in tables:
        print(table.markdown())
    print(f"{describe(machine())}")


if __name__ == "__main__":
    main()
