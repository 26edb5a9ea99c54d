"""The encoder: a `Wav2Vec2ForCTC` that turns batches of audio into log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from ..audio.normalize import EPSILON, normalize
from ..config import SessionConfig
from ..ctc.vocabulary import Vocabulary
from ..errors import EngineError
from ..frames import STRIDE, frames, ms
from ..requests import MULTIPLE, CachedFeatures, CachedStep, CacheHandle
from .answers import Answer, Float32, Pending, collected
from .batching import evenly_long
from .full_pass import PassEncoder, Pause
from .info import ModelInfo
from .languages import Languages
from .preparing import Limits, Preparation, prepare
from .runners import GraphRunner
from .step import StepEncoder


class Identifies(Protocol):
    """An identification model: see `identifier.Identifier`."""

    def begin(self, batch: Sequence[Float32]) -> Pending: ...


class XlsrEncoder:
    """A loaded checkpoint; see `engine.encoder.Encoder`.

    On a CPU the default is one utterance per batch: batches save no time there, and even the last bit of an utterance's
    output then does not depend on other utterances. A batch of full passes holds at most `most_samples`, with padding,
    so live steps never wait long behind it. If `pipelined`, the next batch can begin while the device runs one.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        info: ModelInfo,
        *,
        normalized: bool,
        epsilon: float = EPSILON,
        max_batch: int,
        most_samples: float = math.inf,
        cached: StepEncoder | None = None,
        passes: PassEncoder | None = None,
        languages: Languages | None = None,
        pipelined: bool = False,
    ) -> None:
        self.vocabulary = vocabulary
        self.info = info
        self.normalized = normalized
        self.epsilon = epsilon  # of the normalization
        self.max_batch = max_batch
        self.most_samples = most_samples
        self.languages = languages  # None: the checkpoint has no adapters, or one language was merged
        self.identifier: Identifies | None = None  # of the language, for rows of `MULTIPLE`
        self.cached = cached  # None: the checkpoint does not allow it
        self.pipelined = pipelined
        self._passes = passes  # None: transformers' own forward runs instead
        self._model = model
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        # Group norm computes statistics over time: padding would change every frame, so lengths must be equal.
        self._may_pad = model.config.feat_extract_norm == "layer"

    def normalize(self, samples: Float32) -> Float32:
        """A whole utterance, (n,), as the checkpoint requires it."""
        return normalize(samples, self.epsilon) if self.normalized else samples

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        if not others:
            return True
        if not self._may_pad:
            return samples == others[0]
        if self.pipelined and self._passes:
            return self._passes.fits(frames(samples), [frames(other) for other in others], self.most_samples / STRIDE)
        lengths = [samples, *others]
        return evenly_long(lengths) and max(lengths) * len(lengths) <= self.most_samples

    def encode(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None] | None = None,
        languages: Sequence[str | None] | None = None,
        pause: Pause | None = None,
    ) -> list[Answer]:
        """Log-probabilities, (frames, vocabulary) float32, of normalized 16 kHz audio, (n,) with n of at least 400.

        With `CachedFeatures` the pass may reuse features of the live steps. The output is then the same
        within rounding. Rows of a language have the width of its vocabulary; None is the default language. Those of
        `MULTIPLE` come from the identification model. An utterance that fails alone has an `EngineError` instead of
        rows; if all fail, raises the first.
        """
        return collected(self.begin(batch, cached or [None] * len(batch), languages, pause))

    def begin(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
        pause: Pause | None = None,
    ) -> Pending:
        """`encode` without its wait: call the result for the answers."""
        if self._passes is None:
            return lambda: self._forward(batch)
        if self.identifier is None or languages is None or MULTIPLE not in languages:
            return self._passes.begin(batch, cached, languages, pause)
        asked = [at for at, language in enumerate(languages) if language == MULTIPLE]
        others = [at for at, language in enumerate(languages) if language != MULTIPLE]
        started = [(asked, self.identifier.begin([batch[at] for at in asked]))]
        if others:
            rest: Any = [[each[at] for at in others] for each in (batch, cached, languages)]
            started.append((others, self._passes.begin(*rest, pause=pause)))

        def finish() -> list[Answer]:
            answers: dict[int, Answer] = {}
            for members, pending in started:
                answers.update(zip(members, pending(), strict=True))
            return [answers[at] for at in range(len(batch))]

        return finish

    def with_head(self, weight: Tensor, bias: Tensor) -> PassEncoder | None:
        """Passes over the same layers with another linear head, (outputs, hidden) and (outputs,), and without adapters;
        None if it does not fit."""
        if self._passes is None or weight.shape[1] != self._model.config.hidden_size:
            return None
        return self._passes.with_head(weight.to(self.device), bias.to(self.device))

    @torch.inference_mode()
    def _forward(self, batch: Sequence[Float32]) -> list[Answer]:
        lengths = [len(samples) for samples in batch]
        audio = torch.zeros(len(batch), max(lengths))
        for row, samples in zip(audio, batch, strict=True):
            row[: len(samples)] = torch.from_numpy(samples)
        mask = None
        if min(lengths) != max(lengths):
            mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long().to(self.device)
        logits = self._model(audio.to(self.device, self.dtype), attention_mask=mask).logits
        rows = cast(Float32, logits.float().log_softmax(-1).cpu().numpy())
        if not np.isfinite(rows).all():
            raise EngineError("the model's output is not finite")
        return [r[: frames(length)] for r, length in zip(rows, lengths, strict=True)]

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """See `StepEncoder.fits`."""
        return self._steps.fits(step, others)

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Answer]:
        """See `StepEncoder.encode_steps`."""
        return self._steps.encode_steps(batch)

    def begin_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> Pending:
        """See `StepEncoder.begin`."""
        return self._steps.begin(batch)

    def prepare(self, config: SessionConfig, runner: GraphRunner, *, utterances: int, limits: Limits) -> None:
        """Make room for that many sessions like this one, and capture graphs of their steps and passes.

        Raises `EngineError` without room, and if a capture fails.
        """
        hop = ms(config.hop_ms) // STRIDE
        widest = max(1, ms(config.max_hop_ms) // STRIDE // hop)  # hops
        prepare(
            Preparation(self._steps, self._passes, runner, utterances, self.max_batch, self.most_samples),
            self._handle(config),
            hops=[width * hop for width in sorted({1, 2, widest}) if width <= widest],
            recalls=not self.normalized,  # else the scale of audio differs between steps and passes
            limits=limits,
        )

    def room(self, config: SessionConfig) -> int | None:
        """The number of sessions like this one that can speak at the same time; None without cached steps."""
        return None if self.cached is None else self.cached.caches.room(self._handle(config))

    def utterance_bytes(self, config: SessionConfig) -> int:
        """Device memory of one live utterance of a session like this."""
        return self._steps.utterance_bytes(self._handle(config))

    def release(self, cache: int) -> None:
        """See `StepEncoder.release`."""
        self._steps.release(cache)

    @property
    def interruptible(self) -> bool:
        """Whether live steps may run between the layers of a pass."""
        return self.cached is not None and self._passes is not None and not self.pipelined

    @property
    def _steps(self) -> StepEncoder:
        if self.cached is None:
            raise EngineError("this checkpoint does not allow cached steps")
        return self.cached

    def _handle(self, config: SessionConfig) -> CacheHandle:
        lengths = config.left_context_ms, self.info.lookahead_of(config), config.max_utterance_ms
        left, lookahead, longest = (ms(length) // STRIDE for length in lengths)
        return CacheHandle(left, lookahead, longest)
