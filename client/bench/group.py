"""`xlsr-live bench` and its commands. Each imports heavy packages only when it runs."""

from __future__ import annotations

import click

from .accuracy import accuracy
from .capacity import capacity
from .compare import compare
from .decoding import decoding
from .latency import latency
from .translation import translation

EPILOG = """\b
Examples:
  xlsr-live bench accuracy                     the packaged model on the packaged clips
  xlsr-live bench accuracy recordings/ --model DIR --out results/
  xlsr-live bench compare                      the CPU time that cached steps save
  xlsr-live bench capacity                     the number of live streams that this machine carries
\b
A folder of recordings contains one table (.tsv or .csv) with the columns file and text, as in Common Voice;
or LibriSpeech's .trans.txt files; or pairs such as talk.wav and talk.txt.
"""


@click.group(epilog=EPILOG, invoke_without_command=True, short_help="Measure accuracy, latency, capacity and cost.")
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure a checkpoint on your own audio and machine: accuracy, latency, capacity, cost."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (accuracy, decoding, latency, capacity, compare, translation):
    bench.add_command(command)
