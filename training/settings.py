"""Settings that the recipe of the packaged model and fine-tuning share. Lengths are in seconds unless a name says
samples or frames."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Augmentation:
    """Probabilities per utterance, and ranges to draw from."""

    speed: tuple[float, float] = (0.88, 1.14)  # playing speed of two utterances in three
    noise: float = 0.2
    snr: tuple[float, float] = (3.0, 30.0)  # dB
    hiss: float = 0.2
    room: float = 0.1
    colour: float = 0.1
    bands: float = 0.1
    narrow: float = 0.08  # 8 kHz, half of them with mu-law
    clip: float = 0.02
    gain: tuple[float, float] = (-2.5, 1.5)  # natural log of the level; input is not normalised
    mask_rate: float = 1.0  # time masks per second
    mask_frames: int = 12  # longest time mask

    def scaled(self, by: float) -> Augmentation:
        """Return a copy with every probability multiplied by `by`, for the first rounds."""
        names = ("noise", "hiss", "room", "colour", "bands", "narrow", "clip", "mask_rate")
        return replace(self, **{name: getattr(self, name) * by for name in names})


@dataclass(frozen=True)
class FineTuning:
    """Settings of a fine-tuning run. The rates rise to their peaks, stay there, and fall (three stages, as in wav2vec
    2.0, arXiv 2006.11477)."""

    steps: int | None  # updates; None: as many as `minutes` allow
    minutes: float | None  # of training, evaluations included; None: no limit
    batch_seconds: float  # padded audio per update
    peak: float  # of the weights that the base has
    head_peak: float  # of the head
    seed: int = 1
    warm_up: float = 0.1  # share of the run in which the rates rise
    hold: float = 0.4  # share of the run at the peak rates; the rest falls
    last: float = 0.05  # share of the peak rates at the end
    weight_decay: float = 0.01
    ema: float = 0.99  # of the running average of the weights
    streamed_share: float = 0.5  # share of the updates with the live recognizer's attention
    evaluations: int = 10
    patience: int = 5  # evaluations without a better result after which the run ends
    save_seconds: float = 300.0
    augmentation: Augmentation = Augmentation(gain=(-0.7, 0.7))

    def rate(self, progress: float) -> float:
        """Share of the peak rates after `progress` (0 to 1) of the run."""
        if progress < self.warm_up:
            return max(0.01, progress / self.warm_up)
        falling = progress - self.warm_up - self.hold
        return float(self.last ** (max(0.0, falling) / (1 - self.warm_up - self.hold)))
