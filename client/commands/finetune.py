"""`xlsr-live finetune`: a model of the user's own language and words, from recordings and their transcripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import needs
from ..options.model import device_option

if TYPE_CHECKING:
    from ...training.methods import Method

EPILOG = """\b
Examples:
  xlsr-live finetune bundled --data mine.tsv --out my-model --minutes 30
  xlsr-live finetune facebook/wav2vec2-xls-r-300m --data train.tsv --validation dev.tsv --out my-german
  xlsr-live finetune facebook/wav2vec2-xls-r-1b --data train.tsv --out my-german --lora --noise noises/
  xlsr-live finetune facebook/mms-1b-all --data train.tsv --out my-mms --adapter deu
  xlsr-live finetune facebook/wav2vec2-xls-r-300m --data train.tsv --out my-german --check
\b
What you need:
  A table (.tsv or .csv) with the columns file and text, and speaker if you know it; Common Voice's tables fit. Ten
  minutes adapt a model to a voice, a room or words; a new language needs hours, and a GPU.
\b
What happens:
  1. The program decodes every recording, reads every text, and lists those that it leaves out. --check ends here.
  2. It holds out some speakers for validation, unless --validation names other recordings.
  3. Half of the updates train with the limited context of live steps, so that live text is as good as an offline pass.
  4. DIR gets the checkpoint, its calibration and a model card with error rates. The last line is the command to serve.
  Ctrl-C saves; the same command continues, also after the power was off.
\b
docs/finetuning.md: your own model in an afternoon.
"""


@click.command(epilog=EPILOG, short_help="Train a model on your recordings, for live use.")
@click.argument("base", metavar="BASE")
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="TABLE", help="Recordings and texts.")
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    metavar="TABLE",
    help="Recordings to choose the weights by. [default: a tenth of --data, other speakers]",
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="The new checkpoint."
)
@click.option("--full", "method", flag_value="full", help="Train the whole transformer. [default, up to 600M]")
@click.option("--lora", "method", flag_value="lora", help="Train small additions: less memory, larger bases.")
@click.option("--adapter", "language", metavar="LANG", help="Train a language's adapter of an MMS checkpoint: deu, ...")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Train so long, at most.")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Updates, at most. [default: 30 times all data]")
@click.option(
    "--vocabulary",
    "choice",
    type=click.Choice(["auto", "keep", "new"]),
    default="auto",
    show_default=True,
    help="The base's characters or those of the texts; auto keeps the base's if they can write the texts.",
)
@click.option(
    "--noise",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Recordings without speech to mix in. [default: made-up noise]",
)
@click.option(
    "--ngram", is_flag=True, help="Also make a word n-gram of the transcripts; then only their words come out."
)
@click.option("--data-licence", default="not stated", metavar="TEXT", help="For the model card.")
@click.option("--rate", type=click.FloatRange(0.001, 10), default=1.0, help="Share of the usual learning rates.")
@click.option("--batch-seconds", type=click.FloatRange(min=1), metavar="S", help="Audio of an update. [32; GPU: 320]")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Another seed gives another model.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads. [default: all cores]")
@click.option("--revision", metavar="REV", help="Commit, tag or branch of a Hugging Face base.")
@click.option("--restart", is_flag=True, help="Forget the state of an unfinished run in DIR.")
@click.option("--check", is_flag=True, help="Only look at the data.")
@device_option("--device")
def finetune(
    base: str,
    data: Path,
    validation: Path | None,
    out: Path,
    method: Method | None,
    language: str | None,
    noise: Path | None,
    ngram: bool,
    data_licence: str,
    check: bool,
    compute: str,
    **settings: Any,
) -> int:
    """Train a checkpoint on your own recordings for live speech: your language, your words.

    BASE is a pre-trained checkpoint (XLS-R), a fine-tuned one (any Wav2Vec2ForCTC with layer norm), an MMS checkpoint
    (with --adapter), or bundled: the packaged English model, small enough for a CPU.
    """
    if method and language:
        raise click.UsageError("--adapter trains an adapter; it does not go with --full or --lora")
    # Waiting threads must not spin: beside other programs, spinning makes a step about three times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # every batch has its own shape
    with needs("train", "fine-tuning"):
        import accelerate  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import peft  # noqa: F401  # pyright: ignore[reportUnusedImport]

        from ...training.run import FineTuneRequest
        from .finetune_stages import Extras, run

    request = FineTuneRequest(base, out, method=method, language=language, device=compute, **settings)
    return run(request, data, validation, Extras(noise, ngram, data_licence), check=check)
