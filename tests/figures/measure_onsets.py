"""Speech that begins at the first sample, by the state with which Silero begins (`QUIET` in streaming/audio/silero.py).

    python -m tests.figures.measure_onsets

Needs the speech collection (XLSR_LIVE_SPEECH). Recordings of digits are cut at their onset. Prints for each state how
many of them get no utterance, or one that begins more than 0.1 s late, and how many noise clips open the gate.
"""

from __future__ import annotations

import numpy as np
from xlsr_live.client.bench.corpus import read_corpus, read_samples
from xlsr_live.client.bench.tables import Table
from xlsr_live.streaming import SessionConfig
from xlsr_live.streaming.audio.segmenter import Segmenter
from xlsr_live.streaming.audio.silero import QUIET, Silero
from xlsr_live.streaming.audio.vad import CascadeVad
from xlsr_live.streaming.frames import ms

from tests.figures.measure_gate import PACKET, attenuated
from tests.support.speech import require_speech

STATES = (0.0, QUIET, 0.5, 1.0)
LEVELS = (0, -18)  # dB
ONSET = 0.05  # of the largest amplitude
LATE = ms(100)


def first_start(samples: np.ndarray, quiet: float) -> int | None:
    """Where the first utterance starts; None without one."""
    vad = CascadeVad()
    vad._silero._silero = Silero(quiet)
    segmenter = Segmenter(SessionConfig(), vad)
    for at in range(0, len(samples), PACKET):
        segmenter.receive(samples[at : at + PACKET])
        if segmenter.spans:
            return segmenter.spans[0].start
    return None


def main() -> None:
    recordings = read_corpus(require_speech() / "test.tsv")
    digits = [read_samples(one) for one in recordings if one.path.parent.name == "digits"]
    cut = [one[np.argmax(np.abs(one) > ONSET * np.abs(one).max()) :] for one in digits]
    noise = [read_samples(one) for one in recordings if one.path.parent.name == "noise"]
    rows: list[list[str]] = []
    for quiet in STATES:
        row = [f"{quiet}"]
        for level in LEVELS:
            starts = [first_start(attenuated(one, level), quiet) for one in cut]
            late = sum(start is not None and start > LATE for start in starts)
            row += [f"{starts.count(None)}", f"{late}"]
        rows.append([*row, f"{sum(first_start(one, quiet) is not None for one in noise)}"])
    columns = [f"{what}, {level} dB" for level in LEVELS for what in ("no utterance", "late")]
    title = f"{len(cut)} recordings of digits cut at their onset, and {len(noise)} noise clips that open the gate"
    print(Table(title, ["state", *columns, "noise"], rows).markdown())


if __name__ == "__main__":
    main()
