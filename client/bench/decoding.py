"""`xlsr-live bench decoding`: error rates with and without a language model and hotwords."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...streaming.config import BOOST
from ...streaming.errors import ConfigError
from ..console import needs
from ..options.model import language_option, load_recognizer, recognizer_options, take_model_options
from ..output.progress import progress
from .options import data_options

if TYPE_CHECKING:
    from .decoding_variants import DecodingVariant
    from .tables import Table

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
@recognizer_options()
@language_option
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
        from . import corpus, plots, scoring, tables
    with needs("server", "recognizing speech here"):
        from . import decoding_variants, rare_words

    recordings = corpus.read_corpus(data, where=where, limit=limit)
    selection = take_model_options(options, threads=1)
    with load_recognizer(selection) as recognizer:
        if (language_model := recognizer.assets.language_model) is None:
            raise ConfigError("the checkpoint has no language model of its own: name one with --lm")
        normalizer = scoring.TextNormalizer(recognizer.encoder.vocabulary)
        references = [normalizer.words(recording.text) for recording in recordings]
        rare = [rare_words.rarest_words(words, language_model, hotwords) for words in references]
        distractors = rare_words.distractors(references, rare)
        sets = {recording.set: decoding_variants.all_variants() for recording in recordings}
        with progress(len(recordings)) as (advance, _):
            for recording, *lists in zip(recordings, references, rare, distractors, strict=True):
                samples = corpus.read_samples(recording)
                reference = decoding_variants.Reference(recording.text, *lists)
                decoding_variants.decode_variants(
                    recognizer, normalizer, reference, samples, boost, sets[recording.set]
                )
                advance()
        shown = [summarize(sets, hotwords, normalizer.notes([recording.text for recording in recordings]))]
        tables.show(shown)
        if out:
            report: dict[str, Any] = tables.provenance("decoding") | {
                "model": recognizer.info,
                "data": str(data or "packaged clips"),
                "lm": selection.lm,
                "hotwords": [
                    {"file": recording.path.name, "set": recording.set, "said": said, "not_said": other}
                    for recording, said, other in zip(recordings, rare, distractors, strict=True)
                ],
                "boost": boost,
                "sets": {name: [variant.report() for variant in variants] for name, variants in sets.items()},
            }
            title = plots.titled(recognizer.info.name, len(recordings), "recordings")
            drawn = plots.decoding(out / "decoding.png", sets, title)
            for path in (*tables.write(out, "decoding", shown, report), drawn):
                click.echo(f"written: {path}")


def summarize(sets: dict[str, list[DecodingVariant]], hotwords: int, notes: list[str]) -> Table:
    """One row for each set and variant."""
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
            variant.name,
            *(_errors(variant) if any(score.length for score in variant.texts.words) else _silence(variant)),
            str(variant.intruders) if variant.hotwords != "none" else "",
            f"{1000 * variant.cpu / variant.seconds:.1f}",
        ]
        for name, variants in sets.items()
        for place, variant in enumerate(variants)
    ]
    return Table(f"Finals, up to {hotwords} hotwords for each recording", columns, rows, notes)


def _errors(variant: DecodingVariant) -> list[str]:
    from .scoring import rate
    from .tables import percent

    rare = f"{sum(score.errors for score in variant.rare)} of {sum(score.length for score in variant.rare)}"
    return [percent(variant.texts.wer), variant.texts.interval, rare, percent(rate(variant.elsewhere))]


def _silence(variant: DecodingVariant) -> list[str]:
    """Recordings without speech have no error rate."""
    return [f"words in {sum(map(bool, variant.texts.texts))} of {len(variant.texts.texts)}", "", "", ""]
