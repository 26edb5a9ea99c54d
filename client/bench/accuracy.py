"""`xlsr-live bench accuracy`: what streaming costs in accuracy, by mode and setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import click

from ...streaming.config import Mode, SessionConfig, VadName
from ...streaming.errors import ConfigError
from ..console import needs
from ..options.model import device_option, lm_option, load_recognizer, model_options, take_model_options
from ..output.progress import progress
from .options import data_options

if TYPE_CHECKING:
    from .measured import Measured
    from .steps import Setting

EPILOG = """\b
Examples:
  xlsr-live bench accuracy
  xlsr-live bench accuracy cv-corpus/de/test.tsv --model my/xlsr-german --limit 200 --out german/
  xlsr-live bench accuracy recordings/ --hold-back-ms 0 --hold-back-ms 160
  xlsr-live bench accuracy recordings/ --set 480,480,4000 --set 320,320,4000 --mode cached
\b
Live text: each recording is one utterance without a gate; what the live steps commit, against one pass
over the whole recording (offline). Sessions: the same recording through the gate, as live audio.
Every figure is explained in docs/benchmarks.md.
"""
SETTINGS: Final = ("480,480,4000", "320,320,4000", "200,200,4000", "480,960,4000", "480,480,1000")


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
    "--mode", "modes", metavar="MODE,...", help="Of cached, window, offline. [default: all that the model has]"
)
@click.option(
    "--vad",
    type=click.Choice(get_args(VadName)),
    default="cascade",
    show_default=True,
    help="The gate of the sessions.",
)
@click.option(
    "--hold-back-ms",
    "hold_backs",
    type=int,
    multiple=True,
    metavar="MS",
    help="How long the newest word is held back; may be repeated. [default: that of sessions]",
)
@model_options
@lm_option()
@device_option("--device")
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

    DIR_OR_TSV holds recordings and what is said in them (default: the packaged clips). One CPU thread unless --threads
    says otherwise; modes and settings take turns on every recording.
    """
    with needs("bench", "this benchmark"):
        from . import corpus, plots, scoring, tables
        from .reliability import draw
    with needs("server", "recognizing speech here"):
        from . import measured

    settings = [parse_setting(one) for one in sets]
    recordings = corpus.read_corpus(data, where=where, limit=limit)
    how = take_model_options(options, threads=1)
    with load_recognizer(how) as recognizer:
        chosen = parse_modes(modes, recognizer.info.modes)
        spelling = scoring.Spelling(recognizer.encoder.vocabulary)
        rows = measured.rows(chosen, settings, cast(VadName, vad), hold_backs)
        with progress(len(recordings)) as (advance, _):
            for recording in recordings:
                samples = corpus.read_samples(recording)
                measured.measure(recognizer, spelling, recording, samples, rows)
                advance()
        shown = summarize(rows, spelling.notes([recording.text for recording in recordings]))
        tables.show(shown)
        if out:
            report: dict[str, Any] = tables.provenance("accuracy") | {
                "model": recognizer.info,
                "data": str(data or "packaged clips"),
                "vad": vad,
                "lm": how.lm,
                "rows": [row.report() for row in rows],
            }
            written = tables.write(out, "accuracy", shown, report)
            drawn = draw(out / "accuracy-reliability.png", rows[0].reliabilities())
            for path in (*written, *plots.accuracy(out, rows), drawn):
                click.echo(f"written: {path}")


def parse_setting(text: str) -> Setting:
    """`hop,lookahead,left` in milliseconds. Raises `ConfigError`."""
    from .steps import Setting

    try:
        hop, lookahead, left = (int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--set {text}: three numbers are wanted, hop,lookahead,left in ms: 480,480,4000") from None
    SessionConfig(hop_ms=hop, lookahead_ms=lookahead, left_context_ms=left)
    return Setting(hop, lookahead, left)


def parse_modes(text: str | None, allowed: tuple[Mode, ...]) -> list[Mode]:
    """Names between commas. Raises `ConfigError` for one that the checkpoint does not allow."""
    chosen = list(allowed) if text is None else [part.strip() for part in text.split(",")]
    for mode in chosen:
        if mode not in allowed:
            raise ConfigError(f"mode {mode!r} does not work with this checkpoint; it allows {', '.join(allowed)}")
    return cast("list[Mode]", chosen)


def summarize(rows: list[Measured], notes: list[str]) -> list[Any]:
    """One table of live text, one of sessions."""
    from ..output.latency import percentiles
    from .tables import Table, percent

    def cells(row: Measured, columns: list[Callable[[Measured], str]]) -> list[str]:
        return [str(row.setting or "offline"), row.mode, *(column(row) for column in columns)]

    def calibration(name: str) -> Callable[[Measured], str]:
        return lambda row: f"{found.error:.3f}" if (found := row.reliabilities().get(name)) else ""

    def late(name: str) -> Callable[[Measured], str]:
        def show(row: Measured) -> str:
            found = percentiles(getattr(row.late, name))
            return f"{found['p50']:.2f}, {found['p95']:.2f}" if found["count"] else ""

        return live(show)

    def live(show: Callable[[Measured], str]) -> Callable[[Measured], str]:
        return lambda row: show(row) if row.setting else ""

    text = Table(
        "Live text against offline",
        ["hop, lookahead, left (ms)", "mode", "WER", "95 %", "CER", "frames as offline", "passes", "CPU s per s"],
        [
            cells(
                row,
                [
                    lambda row: percent(row.live.wer),
                    lambda row: row.live.interval,
                    lambda row: percent(row.live.cer),
                    lambda row: percent(row.agreement),
                    lambda row: f"{row.passes:.2f}",
                    lambda row: f"{row.encoder_cpu:.4f}",
                ],
            )
            for row in rows
        ],
        notes,
    )
    sessions = Table(
        "Sessions, through the gate",
        [
            "hop, lookahead, left (ms)",
            "mode",
            "WER of finals",
            "95 %",
            "CER",
            "held back",
            "churn",
            "revised",
            "shown after (s of audio, p50, p95)",
            "committed after",
            "calibration error of finals",
            "of partials",
            "CPU s per s",
        ],
        [
            cells(
                row,
                [
                    lambda row: percent(row.final.wer),
                    lambda row: row.final.interval,
                    lambda row: percent(row.final.cer),
                    live(lambda row: f"{row.config.hold_back_ms} ms"),
                    live(lambda row: f"{row.stability.churn:.3f}"),
                    live(lambda row: percent(row.stability.revision)),
                    late("shown"),
                    late("committed"),
                    calibration("finals"),
                    calibration("partials"),
                    lambda row: f"{row.session_cpu:.4f}",
                ],
            )
            for row in rows
        ],
    )
    return [text, sessions]
