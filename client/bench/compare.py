"""`xlsr-live bench compare`: cached steps compared with windows, the loop of demos and transformers' pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...streaming.errors import ConfigError
from ..console import needs, waiting
from ..options.model import device_option, language_option, load_recognizer, model_options, take_model_options
from .accuracy import parse_setting
from .options import data_options

EPILOG = """\b
Examples:
  xlsr-live bench compare
  xlsr-live bench compare recordings/ --model my/xlsr --limit 20 --out results/
  xlsr-live bench compare --set 320,320,4000 --chunk 8,3,1
\b
docs/benchmarks.md explains every figure.
"""


@click.command(epilog=EPILOG, short_help="Cost and errors against windows, demo loops and the transformers pipeline.")
@data_options
@click.option(
    "--set",
    "setting",
    default="480,480,4000",
    show_default=True,
    metavar="HOP,LOOKAHEAD,LEFT",
    help="Setting of the live steps in ms.",
)
@click.option(
    "--chunk",
    default="10,4,2",
    show_default=True,
    metavar="LENGTH,LEFT,RIGHT",
    help="The pipeline's chunk and its strides in seconds.",
)
@click.option(
    "--long",
    type=click.FloatRange(min=10),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Length of the utterances made of joined recordings.",
)
@model_options
@language_option
@device_option("--device")
def compare(
    data: Path | None,
    where: tuple[str, ...],
    limit: int | None,
    out: Path | None,
    setting: str,
    chunk: str,
    long: float,
    **options: Any,
) -> None:
    """Run one checkpoint in all common ways, in turns on the same audio: errors, CPU time, ratio of CPU times.

    There are two runs: each recording as one utterance, and long utterances of joined recordings, in which windows have
    their full left context (the steady state). The model runs on one CPU thread unless --threads is set.
    """
    with needs("bench", "this benchmark"):
        from . import corpus, scoring, tables
    with needs("server", "recognizing speech here"):
        from . import baselines, comparison
    loaded = take_model_options(options, threads=1)
    steps, strides = parse_setting(setting), parse_chunk(chunk)
    recordings = corpus.read_corpus(data, where=where, limit=limit)
    with load_recognizer(loaded) as recognizer:
        with waiting("loading the model into a transformers pipeline"):
            pipe = baselines.pipeline(loaded.model, recognizer.info, loaded.revision)
        ways = baselines.baselines(recognizer, steps, pipe, strides)
        normalizer = scoring.TextNormalizer(recognizer.encoder.vocabulary)
        single = [(recording.text, corpus.read_samples(recording)) for recording in recordings]
        materials = {"recordings": single, f"utterances of {long:g} s": comparison.join(single, long)}
        results = {name: comparison.run(ways, material, normalizer) for name, material in materials.items()}
        shown = [comparison.table(name, result) for name, result in results.items()]
        tables.show(shown)
        if out:
            report = tables.provenance("compare") | {
                "model": recognizer.info,
                "data": str(data or "packaged clips"),
                "setting_ms": steps._asdict(),
                "results": {name: [one.report() for one in result] for name, result in results.items()},
            }
            for path in tables.write(out, "compare", shown, report):
                click.echo(f"written: {path}")


def parse_chunk(text: str) -> tuple[float, float, float]:
    """`length,left,right` in seconds. Raises `ConfigError`."""
    try:
        length, left, right = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--chunk {text}: write three numbers, length,left,right in seconds: 10,4,2") from None
    if min(left, right) < 0 or length <= left + right:
        raise ConfigError(f"--chunk {text}: the chunk must be longer than its two strides together")
    return length, left, right
