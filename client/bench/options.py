"""Options shared by the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..options.address import url_option
from ..options.combined import combined

F = TypeVar("F", bound=Callable[..., Any])


# The recordings, and the folder for results.
data_options = combined(
    click.argument("data", type=click.Path(path_type=Path), required=False, metavar="[DIR_OR_TSV]"),
    click.option(
        "--where",
        multiple=True,
        metavar="COLUMN=VALUE",
        help="Only these rows of the table; may be repeated.",
    ),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N recordings, evenly spaced."),
    click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write the tables (Markdown), all figures (JSON) and plots (PNG) here.",
    ),
)


def silence_option(command: F) -> F:
    """--silence: the share of pauses in a stream."""
    return click.option(
        "--silence",
        type=click.FloatRange(0, 0.9),
        default=1 / 3,
        show_default="a third",
        metavar="SHARE",
        help="Share of pauses between recordings in each stream.",
    )(command)


# Content, timing and destination of paced streams.
load_options = combined(
    url_option("Measure this server instead of a recognizer in this process."),
    click.option(
        "--pid",
        type=int,
        metavar="PID",
        help="Process of that server on this machine, to measure its CPU time.",
    ),
    click.option(
        "--seconds",
        type=click.FloatRange(min=1),
        default=30.0,
        show_default=True,
        help="Measured time, after the warm-up.",
    ),
    click.option(
        "--warm-up",
        type=click.FloatRange(min=0),
        default=8.0,
        show_default=True,
        metavar="SECONDS",
        help="Unmeasured time at the beginning; streams start in its first half.",
    ),
    silence_option,
    click.option(
        "--packet-ms",
        type=click.IntRange(10, 2_000),
        default=100,
        show_default=True,
        metavar="MS",
        help="Length of a packet.",
    ),
    click.option(
        "--alignment",
        type=click.Path(path_type=Path),
        metavar="TSV",
        help="True ends of words: columns file, word, end (seconds). [default: the times in the finals]",
    ),
)
