"""`xlsr-live languages`: the languages of a checkpoint, with their codes and names."""

from __future__ import annotations

import click

from ...streaming.errors import ConfigError
from ..console import needs

EPILOG = """\b
Examples:
  xlsr-live languages --model facebook/mms-1b-all                all of them, with their names
  xlsr-live languages --model facebook/mms-1b-all kurdish        those with this code or name
  xlsr-live languages --model facebook/mms-1b-all zh-Hans
\b
What --language takes, here and in every other command:
  de, deu, ger, German, Deutsch       ISO 639-1, 639-3, 639-2, names
  zh-Hans, sr-Latn, en-US             with a script; regions do not matter
  cmn-script_simplified               the checkpoint's own code
  auto                                identified in each utterance: --allowed-language de --allowed-language en
"""


@click.command(epilog=EPILOG, short_help="The languages of a checkpoint.")
@click.argument("word", required=False)
@click.option("--model", default="bundled", show_default=True, metavar="NAME_OR_DIR", help="The checkpoint.")
@click.option("--revision", metavar="REV", help="Commit, tag or branch of a Hugging Face model.")
def languages(word: str | None, model: str, revision: str | None) -> None:
    """List the languages of a multilingual checkpoint such as MMS; with WORD, those with a similar code or name.

    Each line has the checkpoint's own code and the English name. The weights are not loaded.
    """
    with needs("server", "reading a checkpoint"):
        from ...streaming.languages import name, search
        from ...streaming.model.adapters import languages_of
        from ...streaming.model.source import find_source

        known = languages_of(find_source(model, revision))
        if known is None:
            raise ConfigError(f"{model} has no languages to choose from: leave --language out")
        found = known if word is None else search(word, known)
        if not found:
            raise ConfigError(f"none of the {len(known):,} languages of {model} has a code or name like {word!r}")
        width = max(map(len, found))
        for code in found:
            click.echo(f"{code:{width}}  {name(code)}")
