"""Cues of continuous speech, compared with the guidelines: `python -m tests.figures.measure_captions [FILE ...]`.

The packaged model transcribes each file, and a third-party parser reads its WebVTT after every final.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import webvtt
from xlsr_live.client.captions.files import ReplacedFile
from xlsr_live.client.output.formats import Vtt
from xlsr_live.streaming import Final, Recognizer
from xlsr_live.streaming.captions.cues import GAP, LINE_CHARS, LINES, LONGEST, SHORTEST, SPEED, Cue, CueMaker

from tests.support.speech import require_speech


def main() -> None:
    files = [Path(name) for name in sys.argv[1:]] or sorted((require_speech() / "longform").glob("*.flac"))
    with Recognizer.load(lm="none", threads=1) as recognizer, tempfile.TemporaryDirectory() as folder:
        for file in files:
            measure(recognizer, file, Path(folder) / "out.vtt")


def measure(recognizer: Recognizer, file: Path, path: Path) -> None:
    finals = [event for event in recognizer.stream(file) if isinstance(event, Final)]
    maker, cues = CueMaker(), list[Cue]()
    with ReplacedFile(path) as out:
        subtitles = Vtt(out)
        subtitles.begin(file.name)
        for final in finals:
            cues += maker.receive(final)
            subtitles.show(final)
            assert len(webvtt.read(path).captions) == len(cues)
    starts = iter(word.start for final in finals for word in final.words)
    delays: list[float] = []
    for cue in cues:
        first, *_ = [next(starts) for line in cue.lines for _ in line.split()]
        delays.append(cue.start - first)
    durations = [cue.end - cue.start for cue in cues]
    speeds = sorted(cue.speed for cue in cues)
    gaps = [after.start - before.end for before, after in pairwise(cues)]
    invalid = sum(len(cue.lines) > LINES or max(map(len, cue.lines)) > LINE_CHARS for cue in cues)
    print(f"{file.name}: {sum(len(final.words) for final in finals)} words, {len(finals)} finals, {len(cues)} cues")
    print(f"  lines too long or too many: {invalid}; parsed after every final: yes")
    print(f"  {min(durations):.2f} to {max(durations):.2f} s on screen (allowed {SHORTEST:.2f} to {LONGEST})")
    print(f"  {min(gaps):.3f} s or more between them (allowed {GAP:.3f})")
    print(
        f"  {speeds[len(speeds) // 2]:.1f} characters a second (median), at most {speeds[-1]:.1f}; {SPEED} are allowed"
    )
    print(f"  too fast: {maker.fast}; at most {max(delays):.2f} s delays")


if __name__ == "__main__":
    main()
