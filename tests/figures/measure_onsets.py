"""Speech that begins at the first sample, by the state with which Silero begins (`QUIET` in streaming/audio/silero.py).

    python -m tests.figures.measure_onsets

Needs the speech collection (XLSR_LIVE_SPEECH). Recordings of digits are cut at their onset. Prints for each state how
many of them get no utterance, or one that begins more than 0.1 s late, and how many noise clips open the gate.

A second table is about recordings after a short silence (zeros). It counts those of whose speech the cascade loses more
than a fifth, with the state of a first sample and with that after silence, and the clips of noise that open the gate.
Speech is what Silero alone finds after two seconds of faint noise.
"""

from __future__ import annotations

import numpy as np
from xlsr_live.client.bench.corpus import read_corpus, read_samples
from xlsr_live.client.bench.tables import Table
from xlsr_live.streaming import SessionConfig
from xlsr_live.streaming.audio.segmenter import Segmenter
from xlsr_live.streaming.audio.silero import QUIET, Silero
from xlsr_live.streaming.audio.vad import FRAME, CascadeVad, SileroVad
from xlsr_live.streaming.frames import SAMPLE_RATE, ms

from tests.figures.measure_gate import PACKET, attenuated
from tests.support.speech import require_speech

STATES = (0.0, QUIET, 0.5, 1.0)
LEVELS = (0, -18)  # dB
ONSET = 0.05  # of the largest amplitude
LATE = ms(100)
SETS = ("digits", "an4", "kathleen", "librispeech", "nonnative")
LEADS = (ms(40), ms(130), ms(230), ms(400))
OPENS, CLOSES = 0.5, 0.35  # of the gate


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


class Unaware(CascadeVad):
    """Does not know that the stream was silent before the first sign of speech."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = True


def in_frames(samples: np.ndarray) -> np.ndarray:
    return samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)


def loses(make: type[CascadeVad], samples: np.ndarray, lead: int) -> bool:
    """Whether the gate would stay closed for more than a fifth of the speech after `lead` samples of silence."""
    late = np.concatenate((np.zeros(lead, np.float32), samples))
    faint = np.random.default_rng(0).normal(0, 1e-4, 66 * FRAME).astype(np.float32)
    speech = np.array(SileroVad()(in_frames(np.concatenate((faint, late))))[66:]) >= OPENS
    found = np.array(make()(in_frames(late))) >= CLOSES
    return (speech & ~found).sum() > 0.2 * speech.sum() > 0


def after_silence(speech: list[np.ndarray], noise: list[np.ndarray]) -> Table:
    rows: list[list[str]] = []
    for name, make in (("first sample", Unaware), ("after silence", CascadeVad)):
        row = [name]
        for lead in LEADS:
            row.append(f"{sum(loses(make, one, lead) for one in speech)}")
        opened = 0
        for one in noise:
            segmenter = Segmenter(SessionConfig(), make())
            segmenter.receive(np.concatenate((np.zeros(LEADS[1], np.float32), one)))
            opened += bool(segmenter.spans)
        rows.append([*row, f"{opened}"])
    columns = [f"{1_000 * lead // SAMPLE_RATE} ms" for lead in LEADS]
    title = f"{len(speech)} recordings that lose speech after a silence; {len(noise)} noise clips that open the gate"
    return Table(title, ["state", *columns, "noise"], rows)


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
    spoken = [read_samples(one)[: 6 * SAMPLE_RATE] for one in recordings if one.path.parent.name in SETS]
    print(after_silence(spoken, noise).markdown())


if __name__ == "__main__":
    main()
