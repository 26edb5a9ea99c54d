"""One update of the weights at a time: gradients of the parts of a step, in threads or processes, then the optimisers.

The parts of a step are batches that fit into memory; their gradients are added. Each thread takes every n-th part in
order, so the sum does not depend on timing. Each process of several takes every n-th part too, and `reduce` adds their
gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..streaming.frames import SAMPLE_RATE
from .batch import Batch
from .checkpoint import Average
from .network import Network, StepLengths, frames
from .precision import mixed

Part = Callable[[], Batch]


@dataclass(frozen=True)
class Update:
    loss: Tensor  # nats per character
    seconds: float  # of audio
    finite: bool  # False: the weights were left as they are


class Guide(Protocol):
    """Adds a loss to that of CTC, with weights of its own that train."""

    layer: int  # of the network, whose output the loss takes
    parameters: list[Tensor]

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Summed over the batch. hidden (batch, frames, hidden)."""
        ...

    def update(self, rate: float) -> None:
        """Change its weights by their gradients, at `rate` of the peak."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...


class Learner:
    """Network, optimisers and running average of the weights that train.

    `optimisers` have groups with a `peak` rate; `middle` is the share of the loss that is taken after the middle layer;
    `after` runs after each change of the weights.
    """

    def __init__(
        self,
        network: Network,
        optimisers: Sequence[torch.optim.Optimizer],
        *,
        device: torch.device,
        threads: int = 1,
        blank: int = 0,
        middle: float = 0.0,
        clip: float = 1.0,
        ema: float = 0.995,
        after: Callable[[], None] = lambda: None,
        reduce: Callable[[list[Tensor]], None] | None = None,
        guide: Guide | None = None,
    ) -> None:
        self.network, self.optimisers, self.device, self.guide = network, optimisers, device, guide
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        if guide is not None:
            network.shown = guide.layer
            self.parameters += guide.parameters
        self.average = Average(network, ema)
        self.pool = ThreadPoolExecutor(threads)
        self._threads, self._blank, self._middle, self._clip = threads, blank, middle, clip
        self._after, self._reduce = after, reduce

    def update(
        self, parts: Sequence[Part], characters: int, rate: float, stream: StepLengths | None, seed: int
    ) -> Update:
        """Change the weights by the gradients of all parts of a step with so many characters.

        `rate` is the share of the peak rates. Gradients that are not finite change nothing.
        """
        torch.manual_seed(seed)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["peak"]
        self.network.train()
        shares = [parts[at :: self._threads] for at in range(min(self._threads, len(parts)))]
        done = list(self.pool.map(self._sum, shares, repeat(characters), repeat(stream)))
        loss, gradients, seconds = done[0] if done else self._nothing()
        for _, more, _ in done[1:]:
            add(gradients, more)
        loss = torch.stack([loss, *(each for each, _, _ in done[1:])]).sum()
        seconds += sum(each for _, _, each in done[1:])
        if self._reduce is not None:
            totals = torch.stack([loss, loss.new_tensor(seconds)])
            self._reduce([*gradients, totals])
            loss, seconds = totals[0], float(totals[1])
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self._clip)
        finite = bool(torch.isfinite(norm))
        if finite:
            list(self.pool.map(_step, self.optimisers))
            if self.guide is not None:
                self.guide.update(rate)
            self._after()
        self.network.zero_grad()
        self.average.update(self.network)
        return Update(loss, seconds, finite)

    def _sum(
        self, share: Sequence[Part], characters: int, stream: StepLengths | None
    ) -> tuple[Tensor, list[Tensor], float]:
        """Loss, gradients and seconds of audio of some parts of a step."""
        loss, gradients, seconds = self._gradients(share[0](), characters, stream)
        for part in share[1:]:
            more, others, longer = self._gradients(part(), characters, stream)
            add(gradients, others)
            loss, seconds = loss + more, seconds + longer
        return loss, gradients, seconds

    def _gradients(
        self, batch: Batch, characters: int, stream: StepLengths | None
    ) -> tuple[Tensor, list[Tensor], float]:
        lengths = batch.lengths.to(self.device, non_blocking=True)
        samples, masks = (x.to(self.device, non_blocking=True) for x in (batch.samples, batch.masks))
        with mixed(self.device):
            heard = self.network(samples, lengths, stream, masks)
        loss = (1 - self._middle) * self._ctc(heard.last, lengths, batch)
        if self._middle:
            loss = loss + self._middle * self._ctc(heard.middle, lengths, batch)
        if self.guide is not None:
            loss = loss + self.guide.loss(heard.hidden, batch)
        loss = loss / max(1, characters)
        gradients = list(torch.autograd.grad(loss, self.parameters))
        return loss.detach(), gradients, float(batch.lengths.sum()) / SAMPLE_RATE

    def _nothing(self) -> tuple[Tensor, list[Tensor], float]:
        """Of a process that a step has no part for."""
        return torch.zeros((), device=self.device), [torch.zeros_like(p) for p in self.parameters], 0.0

    def _ctc(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """CTC loss in nats, summed over the batch."""
        logp = F.log_softmax(logits.float(), -1).transpose(0, 1)
        labels, counts = batch.labels.to(logits.device), batch.label_lengths.to(logits.device)
        return F.ctc_loss(logp, labels, frames(lengths), counts, self._blank, reduction="sum", zero_infinity=True)

    def state(self) -> dict[str, Any]:
        return {
            "network": {name: p.detach() for name, p in self.network.named_parameters() if p.requires_grad},
            "average": self.average.state(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        } | ({"guide": self.guide.state()} if self.guide is not None else {})

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Weight decay and peak rates stay those of this run."""
        self.load_weights(state["network"])
        self.average.load(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            chosen = [{name: group[name] for name in ("weight_decay", "peak")} for group in optimiser.param_groups]
            optimiser.load_state_dict(saved)
            for group, values in zip(optimiser.param_groups, chosen, strict=True):
                group |= values
        if self.guide is not None and "guide" in state:
            self.guide.load(state["guide"])

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take the weights that train; others of `weights` are left out."""
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def add(sums: list[Tensor], more: list[Tensor]) -> None:
    """Add tensors to others of the same shapes, in place."""
    cast(Any, torch)._foreach_add_(sums, more)


def _step(optimiser: torch.optim.Optimizer) -> None:
    optimiser.step()


def draw_lengths(seed: Iterable[int], share: float) -> StepLengths | None:
    """Lengths of live steps for one update, in `share` of the updates; None, for full attention, in the others."""
    draw = np.random.default_rng(tuple(seed))
    if draw.random() >= share:
        return None
    hop = int(draw.integers(10, 41))
    ahead = int(draw.integers(4, min(hop, 25) + 1))
    return StepLengths(hop, ahead, int(draw.integers(50, 301)))
