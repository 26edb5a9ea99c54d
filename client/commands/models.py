"""`xlsr-live models`: checkpoints with short names."""

from __future__ import annotations

import click

from ...streaming.known_models import KnownModel, known_models
from ..console import needs

EPILOG = """\b
Examples:
  xlsr-live models
  xlsr-live transcribe talk.wav --model large-en
  xlsr-live mic --model german
  xlsr-live serve --model mms --language fra
"""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@click.command(epilog=EPILOG, short_help="Checkpoints with short names.")
def models() -> None:
    """List checkpoints that --model knows by a short name; * marks those on this computer.

    The fields are those of the models' cards; sessions here are what `xlsr-live serve` has measured on this computer.
    Any other checkpoint works by its name on the hub or its folder.
    """
    with needs("server", "the list of models"):
        from ...server.models.capacity import remembered

    def carried(name: str) -> str:
        return f"{count} sessions here" if (count := remembered(name)) else ""

    click.echo("* bundled      English, small; the packaged model (docs/bundled-model.md)")
    if here := carried("bundled"):
        click.echo(f"{'':15}{here}")
    for short, model in known_models().items():
        mark = "*" if downloaded(model) else " "
        parameters = model.parameters and f"{model.parameters} parameters"
        facts = (model.hub, parameters, model.licence, model.wer and f"WER {model.wer}", carried(model.hub))
        click.echo(f"{mark} {short:11}  {model.languages}; {model.use}")
        click.echo(f"{'':15}{'; '.join(filter(None, facts))}")


def downloaded(model: KnownModel) -> bool:
    """Whether the weights are in the cache of the Hugging Face hub."""
    with needs("server", "looking for downloaded models"):
        from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(model.hub, name, revision=model.revision), str) for name in WEIGHTS)
