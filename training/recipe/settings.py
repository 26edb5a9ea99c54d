"""All settings of the recipe. Lengths are in seconds unless a name says samples or frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RATE = 16_000  # samples per second
FIRST_KERNEL = 10  # samples seen by the first convolution
HOP = 320  # samples per frame: the product of the strides 5, 2, 2, 2, 2, 2, 2
FRAME = 400  # samples that one frame covers
LIVE_LOOKAHEAD_MS = 240  # of live sessions: half of the usual one costs no errors, since training has such steps too
SCALE = 20.0  # recorded speech has an RMS of about 1 / SCALE (median of the training side: 0.047)


@dataclass(frozen=True)
class Model:
    """Widths of the network: 6.8 M parameters. The CNN on raw samples tapers, because its first layers run longest."""

    hidden: int = 256
    layers: int = 8
    heads: int = 4
    conv_dim: tuple[int, ...] = (32, 64, 96, 96, 128, 128, 160)
    position_width: int = 64  # frames covered by the convolutional position embedding
    dropout: float = 0.0


@dataclass(frozen=True)
class Optimiser:
    """AdamW for vectors and embeddings, Muon for the matrices of the encoder; warm-up, constant, linear decay."""

    matrices: str = "muon"  # or "adamw"
    peak: float = 1e-3
    matrix_peak: float = 2e-3  # of Muon, scaled to match the size of AdamW's updates
    warmup_steps: int = 300
    weight_decay: float = 0.1
    clip: float = 1.0
    ema: float = 0.995
    middle_loss: float = 0.3  # share of the CTC loss taken after the middle layer
    streamed_share: float = 0.25  # share of the steps with the live recognizer's attention


@dataclass(frozen=True)
class Guidance:
    """Feature regression with a teacher, beside CTC."""

    layer: int = 6  # whose output predicts the teacher's features
    weight: float = 0.4  # of the error of a frame, in variances, beside the CTC loss in nats
    share: float = 0.5  # of the rows of a batch; the teacher takes a quarter of the time of a step
    peak: float = 2e-3  # rate of the predicting layer
    positions: int = 300  # the teacher hears a batch at a random one of them, in frames
    measured: int = 20  # batches that give mean and deviation of the features


# Share of each corpus in a round of training. If a corpus is missing, the others are scaled up.
SHARES = {
    "librispeech": 0.23,
    "storybooks": 0.1,
    "kokoro": 0.28,
    "kathleen": 0.17,
    "speechocean762": 0.09,
    "an4": 0.08,
    "fsdd": 0.06,
    "ljspeech": 0.01,
    "wakewords": 0.015,
    "noise": 0.03,
    "tts": 0.165,
}


@dataclass(frozen=True)
class Schedule:
    """Training goes in rounds of about `round_hours` of audio; a round is a function of its number and the seed."""

    seed: int = 1
    round_hours: float = 1.0
    easy_rounds: int = 6  # rounds until utterances of every length take part
    easy_seconds: float = 3.5  # longest utterance in the first round
    longest: float = 17.0  # recordings in one example; played slower and with its gaps it takes up to a fifth more
    full_augmentation_round: int = 12  # augmentation grows until then
    joined: float = 0.25  # share of examples that are made of two or three utterances
    spliced: float = 0.5  # share of the sentences that phrases of the same speaker replace, in corpora cut into phrases
    spliced_from: int = 40  # first round with phrases; the network must be able to align the training side


@dataclass(frozen=True)
class Options:
    """What the command line chooses for one run."""

    rounds: int = 110  # the stable phase ends after this round
    minutes: float = 1e9  # stop (and save) after this long
    decay: int = 0  # rounds of falling rate after the stable phase; 0 for the stable phase itself
    batch_seconds: float = 32.0  # padded audio per step
    shards: int = 1  # parts of a step; each has its own thread
    workers: int = 0  # processes that prepare batches, for a GPU
    evaluate_every: int = 10  # rounds
    matrices: str = "muon"
    streamed_share: float = Optimiser.streamed_share
    peak: float = 1.0  # share of the optimiser's peak rates
    teacher: Path | None = None  # a Whisper checkpoint, for feature regression
    start: Path | None = None  # a checkpoint folder whose weights a fresh stable phase begins with
    within: float = 1e9  # minutes of training after which the rate of a decay is zero, if its rounds take longer
    schedule: Schedule = Schedule()
    model: Model = Model()


@dataclass(frozen=True)
class Work:
    """Paths: the speech folder (read only) and a folder for all results."""

    speech: Path
    root: Path
    scrap: bool = False  # use a small part of the data, for a trial run

    @property
    def synthetic(self) -> Path:
        return self.root / "synthetic"

    @property
    def kokoro(self) -> Path:
        return self.root / "kokoro"

    @property
    def audio(self) -> Path:
        return self.root / "audio"

    @property
    def run(self) -> Path:
        return self.root / "run"
