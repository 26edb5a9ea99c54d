"""The metrics of all replicas on one page, with the replica as a label."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

logger = logging.getLogger("xlsr_live.server")

ANSWER_S: Final = 5.0
Report = tuple[str, list[Metric]]  # of one replica: its name, its metrics


async def ask_replicas(own: Callable[[], Awaitable[Report]]) -> list[Report]:
    """The reports of all replicas that answer; `own` is that of this one."""
    from ray import serve

    context = serve.get_replica_context()
    handle = cast(Any, serve).get_deployment_handle(context.deployment, context.app_name)
    try:
        found: list[Any] = await handle.broadcast("metrics").results_async(timeout_s=ANSWER_S, return_exceptions=True)
    except Exception as error:
        logger.warning("the other replicas do not report their metrics: %s", error)
        found = []
    reports: list[Report] = [report for report in found if not isinstance(report, BaseException)]
    return reports or [await own()]


def merged(reports: Sequence[Report]) -> bytes:
    """All reports in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(reports))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = sorted(reports, key=lambda report: report[0])

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, metrics in self._reports:
            for each in metrics:
                family = families.setdefault(each.name, Metric(each.name, each.documentation, each.type, each.unit))
                family.samples += [
                    sample._replace(labels={"replica": replica, **sample.labels}) for sample in each.samples
                ]
        yield from families.values()
