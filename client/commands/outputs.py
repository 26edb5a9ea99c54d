"""Additional outputs of a command: captions and the summary."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import click

from ...streaming.config import SessionConfig
from ..output.formats import Output
from ..output.options import OutputOptions


@contextmanager
def side_outputs(options: OutputOptions, *, config: SessionConfig, paced: bool, local: bool) -> Generator[list[Output]]:
    """The additional outputs of the options. Raises `click.UsageError` for captions that would stay empty.

    `paced`: the audio arrives in real time, so words can be late. `local`: the model runs in this process.
    """
    from ..captions.targets import TRANSLATED, caption_output
    from ..output.summary import Summary, read_reference
    from ..output.totals import Totals

    for target in () if config.translate_to else options.captions:
        if found := TRANSLATED.fullmatch(target):
            raise click.UsageError(f"--captions {target} needs a translation: --translate {found[1]}")
    with ExitStack() as stack:
        outputs: list[Output] = []
        if options.summary:
            reference = read_reference(options.reference) if options.reference else None
            outputs.append(stack.enter_context(Summary(sys.stderr, reference=reference, paced=paced, local=local)))
        elif sys.stderr.isatty() and (paced or options.path or options.captions):
            outputs.append(stack.enter_context(Totals(sys.stderr)))
        for target in options.captions:
            captions = caption_output(
                target, early=config.appends, paced=paced, overwrite=options.overwrite, case=options.case
            )
            outputs.append(stack.enter_context(captions))
        yield outputs
