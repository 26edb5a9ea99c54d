"""Additional outputs of a command: captions and the summary."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from ...streaming.config import SessionConfig
from ..output.formats import Output
from ..output.options import OutputOptions


@contextmanager
def side_outputs(options: OutputOptions, *, config: SessionConfig, paced: bool, local: bool) -> Generator[list[Output]]:
    """The additional outputs of the options.

    `paced`: the audio arrives in real time, so words can be late. `local`: the model runs in this process.
    """
    from ..captions.targets import caption_output
    from ..output.summary import Summary, read_reference

    with ExitStack() as stack:
        outputs: list[Output] = []
        if options.summary:
            reference = read_reference(options.reference) if options.reference else None
            outputs.append(stack.enter_context(Summary(sys.stderr, reference=reference, paced=paced, local=local)))
        for target in options.captions:
            outputs.append(stack.enter_context(caption_output(target, early=config.appends, paced=paced)))
        yield outputs
