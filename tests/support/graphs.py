"""Graphs on a CPU: a stand-in for captures, and models that are prepared as on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from xlsr_live.streaming.model.cache import CacheManager
from xlsr_live.streaming.model.full_pass import PassEncoder
from xlsr_live.streaming.model.languages import Languages
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.preparing import Limits, Preparation, prepare
from xlsr_live.streaming.model.runners import GraphRunner
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.requests import CacheHandle


def again(program: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """The interface of `CudaCapture`: a replay that runs again on the same buffers."""
    answer = program()

    def replay() -> None:
        answer.copy_(program())

    return replay, answer


class GraphModel:
    """Steps and passes over the same slots, by graphs of the shapes of one geometry."""

    def __init__(
        self,
        model: object,
        hop: int,
        lookahead: int,
        left: int,
        *,
        runner: GraphRunner | None = None,
        languages: Languages | None = None,
        utterances: int = 64,
        max_batch: int = 4,
        recalls: bool = True,
        limits: Limits | None = None,
    ) -> None:
        self.network = XlsrLayers(model, languages)
        self.runner = runner or GraphRunner(torch.device("cpu"), capture=again)
        self.caches = CacheManager(self.network.pool, most_bytes=1 << 28)
        self.steps = StepEncoder(self.network, self.caches, self.runner)
        self.wholes = PassEncoder(self.network, self.caches, self.runner)
        prepare(
            Preparation(self.steps, self.wholes, self.runner, utterances, max_batch, float("inf")),
            CacheHandle(left, lookahead),
            hops=[hop, 2 * hop],
            recalls=recalls,
            limits=limits or no_limits(),
        )


def no_limits() -> Limits:
    return Limits(memory=lambda: 0, most_bytes=0, clock=lambda: 0.0)
