"""Draws demo.svg: `python docs/images/demo.py`. The display of `xlsr-live demo` while somebody is speaking."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path

import numpy as np
import pyte
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from xlsr_live.client.bench.corpus import read_corpus, read_samples
from xlsr_live.client.commands.demo import PAUSE_SECONDS
from xlsr_live.client.output.display import LiveDisplay
from xlsr_live.streaming import Final, Partial, Recognizer

FINALS, PARTIALS = 3, 3  # the moment: after so many finals, and then so many partials


def main() -> None:
    os.environ["TERM"] = "linux"  # volatile text is underlined there, which the terminal below knows, and not dim
    pause = np.zeros(round(16_000 * PAUSE_SECONDS), np.float32)
    audio = np.concatenate([x for clip in read_corpus(None) for x in (read_samples(clip), pause)])
    written = StringIO()
    display = LiveDisplay(written)
    finals = partials = 0
    with Recognizer.load(device="cpu") as recognizer:
        for event in recognizer.stream(audio, pace=1.0):  # the display draws at most so often a second
            display.show(event)
            finals += isinstance(event, Final)
            partials += isinstance(event, Partial) and finals == FINALS
            if partials == PARTIALS:
                break
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(written.getvalue().replace("\n", "\r\n"))
    console = Console(file=StringIO(), record=True, width=80, highlight=False)
    console.print("$ xlsr-live demo\n")
    for row in range(screen.cursor.y + 1):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        line = Text.assemble(*((cell.data, "dim" if cell.underscore else "bold" * cell.bold) for cell in cells))
        line.rstrip()
        if line:
            console.print(line)
    svg = console.export_svg(title="xlsr-live demo", theme=MONOKAI)
    Path(__file__).with_suffix(".svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
