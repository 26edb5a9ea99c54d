"""`xlsr-live bench decoding`: what a language model and hotwords gain, and what they harm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...streaming.config import BOOST
from ...streaming.errors import ConfigError
from ..console import needs
from ..options.model import (
    device_option,
    language_option,
    lm_option,
    load_recognizer,
    model_options,
    take_model_options,
)
from ..output.progress import progress
from .options import data_options

if TYPE_CHECKING:
    from .tables import Table
    from .ways import Way

EPILOG = """\b
Examples:
  xlsr-live bench decoding recordings/ --model my/xlsr-german --lm german.arpa
  xlsr-live bench decoding test.tsv --where set=an4 --where set=librispeech --out decoding/
\b
Hotwords are the rarest words of each recording. Every figure is explained in docs/benchmarks.md.
"""


@click.command(epilog=EPILOG, short_help="What a language model and hotwords gain and harm.")
@data_options
@click.option(
    "--hotwords", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="For each recording."
)
@click.option(
    "--boost",
    type=click.FloatRange(0, 20, min_open=True),
    default=BOOST,
    show_default=True,
    metavar="X",
    help="Of hotwords.",
)
@model_options
@language_option
@lm_option()
@device_option("--device")
def decoding(
    data: Path | None,
    where: tuple[str, ...],
    limit: int | None,
    out: Path | None,
    hotwords: int,
    boost: float,
    **options: Any,
) -> None:
    """Decode the same finals greedily and with a language model, with and without hotwords, set by set."""
    with needs("bench", "this benchmark"):
        from . import corpus, scoring, tables
    with needs("server", "recognizing speech here"):
        from . import rare, ways

    recordings = corpus.read_corpus(data, where=where, limit=limit)
    how = take_model_options(options, threads=1)
    with load_recognizer(how) as recognizer:
        if (words := recognizer.assets.language_model) is None:
            raise ConfigError("the checkpoint has no language model of its own: name one with --lm")
        normalizer = scoring.TextNormalizer(recognizer.encoder.vocabulary)
        spoken = [normalizer.words(recording.text) for recording in recordings]
        chosen = [rare.rarest(said, words, hotwords) for said in spoken]
        others = rare.unsaid(spoken, chosen)
        sets = {recording.set: ways.ways() for recording in recordings}
        with progress(len(recordings)) as (advance, _):
            for recording, *said in zip(recordings, spoken, chosen, others, strict=True):
                samples = corpus.read_samples(recording)
                about = ways.Said(recording.text, *said)
                ways.measure(recognizer, normalizer, about, samples, boost, sets[recording.set])
                advance()
        shown = [summarize(sets, hotwords, normalizer.notes([recording.text for recording in recordings]))]
        tables.show(shown)
        if out:
            report: dict[str, Any] = tables.provenance("decoding") | {
                "model": recognizer.info,
                "data": str(data or "packaged clips"),
                "lm": how.lm,
                "hotwords": [
                    {"file": recording.path.name, "set": recording.set, "said": said, "not_said": other}
                    for recording, said, other in zip(recordings, chosen, others, strict=True)
                ],
                "boost": boost,
                "sets": {name: [way.report() for way in found] for name, found in sets.items()},
            }
            for path in tables.write(out, "decoding", shown, report):
                click.echo(f"written: {path}")


def summarize(sets: dict[str, list[Way]], hotwords: int, notes: list[str]) -> Table:
    """A row for each set and way."""
    from .tables import Table

    columns = [
        "set",
        "decoding",
        "WER",
        "95 %",
        "rare words missed",
        "WER elsewhere",
        "hotwords not said",
        "CPU ms per s",
    ]
    rows = [
        [
            name if not place else "",
            way.name,
            *(_errors(way) if any(score.length for score in way.texts.words) else _silence(way)),
            str(way.intruders) if way.hotwords != "none" else "",
            f"{1000 * way.cpu / way.seconds:.1f}",
        ]
        for name, found in sets.items()
        for place, way in enumerate(found)
    ]
    return Table(f"Finals, up to {hotwords} hotwords for each recording", columns, rows, notes)


def _errors(way: Way) -> list[str]:
    from .scoring import rate
    from .tables import percent

    rare = f"{sum(score.errors for score in way.rare)} of {sum(score.length for score in way.rare)}"
    return [percent(way.texts.wer), way.texts.interval, rare, percent(rate(way.elsewhere))]


def _silence(way: Way) -> list[str]:
    """Where nobody speaks there is no rate."""
    return [f"words in {sum(map(bool, way.texts.texts))} of {len(way.texts.texts)}", "", "", ""]
