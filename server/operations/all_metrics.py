"""Metrics of all fronts in one answer: every front's own, with its number as the label `front`, and the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from ..net import peers
from ..sessions.fronts import Fronts
from .metrics import PREFIX

OF_THE_SERVER: Final = frozenset(  # the same in all fronts
    PREFIX + name
    for name in (
        *("info", "ready", "models_loaded", "sessions_limit", "queue_depth", "engine_working_seconds"),
        *("engine_restarts", "engine_busy_seconds", "batch_size", "gpu_memory_bytes"),
    )
)


async def of_all_fronts(own: bytes, fronts: Fronts) -> bytes:
    """`own` are the metrics of this front. A front that does not answer, because it starts again, is missing."""
    others = [number for number in range(fronts.count) if number != fronts.number]
    answers = await asyncio.gather(*(_fetch(fronts.address(number)) for number in others))
    found = {number: answer for number, answer in zip(others, answers, strict=True) if answer}
    return merged({fronts.number: own.decode()} | found)


async def _fetch(address: str) -> str:
    try:
        async with asyncio.timeout(peers.ANSWER_S):
            answer = await peers.get(address, "/metrics")
            return b"".join([piece async for piece in answer.body]).decode()
    except (OSError, EOFError):
        return ""


def merged(texts: Mapping[int, str]) -> bytes:
    """The metrics by front, as one text."""
    families: dict[str, Metric] = {}
    for front, text in texts.items():
        for family in text_string_to_metric_families(text):
            common = family.name in OF_THE_SERVER
            if common and family.name in families:
                continue
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                labels = sample.labels if common else {**sample.labels, "front": str(front)}
                known.add_sample(sample.name, labels, sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(list(families.values())))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
