"""Draws demo.svg: `python docs/images/demo.py`. The display of `xlsr-live demo` while somebody is speaking."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.terminal_theme import MONOKAI
from xlsr_live.client.bench.corpus import read_corpus, read_samples
from xlsr_live.client.demo import PAUSE_SECONDS
from xlsr_live.client.display import LiveDisplay
from xlsr_live.streaming import Final, Partial, Recognizer

FINALS, PARTIALS = 4, 3  # the moment: after so many finals, and then so many partials


def main() -> None:
    pause = np.zeros(round(16_000 * PAUSE_SECONDS), np.float32)
    audio = np.concatenate([x for clip in read_corpus(None) for x in (read_samples(clip), pause)])
    display = LiveDisplay(StringIO())
    console = display._console = Console(file=StringIO(), record=True, width=76, highlight=False)
    console.print("$ xlsr-live demo\n")
    finals = partials = 0
    with Recognizer.load(device="cpu") as recognizer:
        for event in recognizer.stream(audio):
            display.show(event)
            finals += isinstance(event, Final)
            partials += isinstance(event, Partial) and finals == FINALS
            if partials == PARTIALS:
                break
    console.print(display)
    svg = console.export_svg(title="xlsr-live demo", theme=MONOKAI)
    Path(__file__).with_suffix(".svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
