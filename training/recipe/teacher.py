"""Feature regression: a hidden layer of the network learns to predict what Whisper's encoder makes of the clean speech.

The loss stands beside CTC and does not need texts. The network hears the disturbed speech with hidden frames, the
teacher the clean one. As in DistilHuBERT (Chang, Yang, Lee, "DistilHuBERT: Speech Representation Learning by Layer-wise
Distillation of Hidden-unit BERT", ICASSP 2022) a linear layer predicts the teacher's features; it trains too, and no
exported model has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from ..augment import Samples
from ..batch import Batch
from ..network import frames
from ..precision import mixed
from .settings import FRAME, HOP, RATE, Guidance

_LEVEL: Final = 0.05  # RMS of recorded speech
_FAR: Final = 6.0  # standard deviations; larger errors count as this


class Teacher:
    """The encoder of a Whisper checkpoint, and the linear layer that predicts its features (`learner.Guide`)."""

    def __init__(self, folder: Path, hidden: int, device: torch.device, how: Guidance = Guidance()) -> None:  # noqa: B008 (frozen)
        self.how, self.layer, self.device = how, how.layer, device
        whisper: Any = cast(Any, transformers)
        self._encoder = whisper.WhisperModel.from_pretrained(folder).encoder.eval().requires_grad_(False).to(device)
        self._extract = whisper.WhisperFeatureExtractor.from_pretrained(folder)
        width: int = self._encoder.config.d_model
        self.head = nn.Linear(hidden, width).to(device)
        self.mean, self.deviation = torch.zeros(width, device=device), torch.zeros(width, device=device)
        self.parameters: list[Tensor] = list(self.head.parameters())
        self._optimiser = torch.optim.AdamW(self.head.parameters(), lr=how.peak, weight_decay=0.0)

    @property
    def measured(self) -> bool:
        """Whether mean and deviation of the features are known."""
        return bool(self.deviation.any())

    def measure(self, batches: Iterable[Batch]) -> None:
        """Find mean and standard deviation of each feature, to which errors are relative."""
        heard = torch.cat([self._features(b.clean, b)[self._valid(b)] for b in batches])
        self.mean, self.deviation = heard.mean(0), heard.std(0)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Squared error of the predicted features in variances, mean over the features, summed over the frames.

        hidden (batch, frames, hidden). The teacher hears a share of the rows (`Guidance.share`) of every batch, so that
        batches side by side take about the same time.
        """
        draw = _draw(batch, 0)
        count = int(self.how.share * len(batch.clean) + draw.random())
        rows = sorted(draw.permutation(len(batch.clean))[:count].tolist())
        guess = self.head(F.layer_norm(hidden[rows].float(), hidden.shape[-1:]))
        if not rows:
            return guess.sum()
        features = self._features([batch.clean[row] for row in rows], batch)
        error = (guess - (features - self.mean) / self.deviation).clamp(-_FAR, _FAR)
        return self.how.weight * error.square().mean(-1)[self._valid(batch)[rows]].sum()

    @torch.no_grad()
    def _features(self, rows: Sequence[Samples], batch: Batch) -> Tensor:
        """(rows, frames, width) of clean rows of a batch, at the middle of the network's frames.

        Frame i of the network is centred at sample i * HOP + FRAME / 2, that of the teacher at i * HOP. A part of the
        features is absolute position, which the network cannot know: a random one makes it noise.
        """
        total = batch.masks.shape[1]
        position = int(_draw(batch, 1).integers(self.how.positions))
        x = self._mel(rows, batch.samples.shape[1] + RATE).to(self.device)
        encoder = self._encoder
        with mixed(self.device):
            x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(x)))).transpose(1, 2)
            x = x + encoder.embed_positions.weight[position : position + x.shape[1]]
            for layer in encoder.layers:
                x = layer(x, None)
                x = x if isinstance(x, Tensor) else x[0]  # a pair in transformers 5.0
            x = encoder.layer_norm(x).float()
        later = FRAME / 2 / HOP
        return (1 - later) * x[:, :total] + later * x[:, 1 : total + 1]

    def _mel(self, rows: Iterable[Samples], samples: int) -> Tensor:
        """(rows, bands, 2 * frames) log-mel spectrum of so many samples, a second more than the longest row of the
        batch: without silence at the end, the last features are wrong."""
        padded = [np.pad(_LEVEL * row, (0, samples - len(row))) for row in rows]
        made = self._extract(padded, sampling_rate=RATE, return_tensors="pt", padding="longest", truncation=False)
        mel = made.input_features
        return mel[:, :, : mel.shape[2] // 2 * 2]

    def _valid(self, batch: Batch) -> Tensor:
        """(batch, frames) bool, False for padding."""
        count = frames(batch.lengths).to(self.device)
        return torch.arange(batch.masks.shape[1], device=self.device) < count.unsqueeze(1)

    def update(self, rate: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = rate * self.how.peak
        self._optimiser.step()

    def state(self) -> dict[str, Any]:
        return {
            "head": self.head.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "mean": self.mean,
            "deviation": self.deviation,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.mean, self.deviation = (state[name].to(self.device) for name in ("mean", "deviation"))


def _draw(batch: Batch, stream: int) -> np.random.Generator:
    """The same for a batch in every run; independent of other streams."""
    return np.random.default_rng((stream, *batch.lengths.tolist()))
