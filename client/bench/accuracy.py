"""`xlsr-live bench accuracy`: the loss of accuracy from streaming, by mode and setting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import click

from ...streaming.config import Mode, SessionConfig, VadName
from ...streaming.errors import ConfigError
from ..console import needs
from ..options.model import language_option, load_recognizer, recognizer_options, take_model_options
from ..output.progress import progress
from .options import data_options

if TYPE_CHECKING:
    from .steps import StepSetting

EPILOG = """\b
Examples:
  xlsr-live bench accuracy
  xlsr-live bench accuracy cv-corpus/de/test.tsv --model my/xlsr-german --limit 200 --out german/
  xlsr-live bench accuracy recordings/ --hold-back-ms 0 --hold-back-ms 160
  xlsr-live bench accuracy recordings/ --set 480,480,4000 --set 320,320,4000 --mode cached
\b
Live text: each recording is one utterance without a gate; the committed text of live steps, compared with one pass
over the whole recording (offline). Sessions: the same recording through the gate, as live audio.
docs/benchmarks.md explains every figure.
"""
SETTINGS: Final = ("480,480,4000", "480,240,4000", "320,320,4000", "200,200,4000", "480,960,4000", "480,480,1000")


@click.command(epilog=EPILOG, short_help="Error rates, stability and cost by mode and setting.")
@data_options
@click.option(
    "--set",
    "sets",
    multiple=True,
    default=SETTINGS,
    metavar="HOP,LOOKAHEAD,LEFT",
    help=f"Setting of the live steps in ms; may be repeated. [default: {' and '.join(SETTINGS)}]",
)
@click.option(
    "--mode", "modes", metavar="MODE,...", help="Modes: cached, window, offline. [default: all modes of the model]"
)
@click.option(
    "--vad",
    type=click.Choice(get_args(VadName)),
    default="cascade",
    show_default=True,
    help="Gate of the sessions.",
)
@click.option(
    "--hold-back-ms",
    "hold_backs",
    type=int,
    multiple=True,
    metavar="MS",
    help="Delay of the newest word; may be repeated. [default: the sessions' own]",
)
@recognizer_options()
@language_option
def accuracy(
    data: Path | None,
    where: tuple[str, ...],
    limit: int | None,
    out: Path | None,
    sets: tuple[str, ...],
    modes: str | None,
    vad: str,
    hold_backs: tuple[int, ...],
    **options: Any,
) -> None:
    """Measure error rates, stability and cost of live text and of finals, for each mode and setting.

    DIR_OR_TSV contains recordings and their transcripts (default: the packaged clips). The model runs on one CPU thread
    unless --threads is set. Every recording runs in all modes and settings before the next one.
    """
    with needs("bench", "this benchmark"):
        from . import accuracy_tables, corpus, plots, scoring, tables
    with needs("server", "recognizing speech here"):
        from . import accuracy_rows

    settings = [parse_setting(one) for one in sets]
    recordings = corpus.read_corpus(data, where=where, limit=limit)
    loaded = take_model_options(options, threads=1)
    with load_recognizer(loaded) as recognizer:
        chosen = parse_modes(modes, recognizer.info.modes)
        normalizer = scoring.TextNormalizer(recognizer.encoder.vocabulary)
        rows = accuracy_rows.make_rows(chosen, settings, cast(VadName, vad), hold_backs)
        with progress(len(recordings)) as (advance, _):
            for recording in recordings:
                samples = corpus.read_samples(recording)
                accuracy_rows.measure(recognizer, normalizer, recording, samples, rows)
                advance()
        notes = normalizer.notes([recording.text for recording in recordings])
        shown = [accuracy_tables.live_text(rows, notes), accuracy_tables.sessions(rows)]
        tables.show(shown)
        if out:
            report: dict[str, Any] = tables.provenance("accuracy") | {
                "model": recognizer.info,
                "data": str(data or "packaged clips"),
                "vad": vad,
                "lm": loaded.lm,
                "rows": [row.report() for row in rows],
            }
            written = tables.write(out, "accuracy", shown, report)
            title = plots.titled(recognizer.info.name, len(recordings), "recordings")
            drawn = plots.reliability(out / "accuracy-reliability.png", rows[0].reliabilities(), title)
            for path in (*written, *plots.accuracy(out, rows, title), drawn):
                click.echo(f"written: {path}")


def parse_setting(text: str) -> StepSetting:
    """`hop,lookahead,left` in milliseconds. Raises `ConfigError`."""
    from .steps import StepSetting

    try:
        hop, lookahead, left = (int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--set {text}: write three numbers, hop,lookahead,left in ms: 480,480,4000") from None
    SessionConfig(hop_ms=hop, lookahead_ms=lookahead, left_context_ms=left)
    return StepSetting(hop, lookahead, left)


def parse_modes(text: str | None, allowed: tuple[Mode, ...]) -> list[Mode]:
    """Modes separated by commas. Raises `ConfigError` for a mode that the checkpoint does not allow."""
    chosen = list(allowed) if text is None else [part.strip() for part in text.split(",")]
    for mode in chosen:
        if mode not in allowed:
            raise ConfigError(f"mode {mode!r} does not work with this checkpoint; it allows {', '.join(allowed)}")
    return cast("list[Mode]", chosen)
