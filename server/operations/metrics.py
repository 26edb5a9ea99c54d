"""Exports the counters of server and engine in Prometheus' text format."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from ...streaming.engine.counters import Histogram
from ...streaming.translation.counters import TranslationCounters
from ..models.memory import gpu_memory
from ..net.loop import MeasuredLoop
from ..processes.remote_engine import RemoteEngine
from ..sessions.admission import Admission
from .health import unready_reasons

PREFIX: Final = "xlsr_live_"
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Exporter(Collector):
    """Call `render` on the server's event loop."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._models = admission.models
        self._sessions = admission.sessions
        self._stats = admission.stats
        self._sharing = admission.sharing
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._server()
        yield from self._engine()
        yield from self._translation()
        yield from self._device()

    def _server(self) -> Iterator[Metric]:
        stats, sessions = self._stats, self._sessions
        info = self._models.current.info
        labels = {"version": version("xlsr-live"), "model": info.name, "device": info.device, "dtype": info.dtype}
        yield _gauge(
            "info", "Version, model, device and number format; always 1.", {tuple(labels.values()): 1}, tuple(labels)
        )
        reasons = unready_reasons(self._models.current.engine, self._admission)
        yield _gauge("ready", "1 while the server accepts new sessions.", not reasons)
        yield _gauge("sessions_open", "Open sessions.", sessions.count)
        yield _gauge("sessions_limit", "Limit of open sessions.", sessions.limit)
        yield _gauge("models_loaded", "Models in memory.", len(self._models))
        yield _counters("reloads", "Changes of the model.", stats.reloads, "result")
        yield _gauge("viewers", "Viewers of shared sessions.", self._sharing.viewers)
        yield _counters("sessions", "Opened sessions.", stats.sessions, "dialect")
        yield _counter("resumed", "Connections that resumed a session.", stats.resumed)
        yield _counter("moved", "Sessions of other servers that continued here.", stats.moved)
        yield _counters("refused", "Refused connections and requests.", stats.refused, "reason")
        yield _counters("errors", "Errors sent to clients.", stats.errors, "code")
        yield _counter("audio_seconds", "Received audio.", stats.audio_s)
        yield _counter("speech_seconds", "Audio in utterances.", stats.speech_s)
        yield _counter("partials", "Partial transcripts.", stats.partials)
        yield _counter("partials_coalesced", "Partials that a newer one replaced for slow readers.", stats.coalesced)
        yield _counter("finals", "Final transcripts.", stats.finals)
        yield _counter("dropped_samples", "Accepted samples that were not recognized; must stay 0.", stats.dropped)
        yield _counter(
            "abandoned_samples", "Samples of utterances whose client left before their end.", stats.abandoned
        )
        loop = asyncio.get_running_loop()
        if isinstance(loop, MeasuredLoop):
            yield _counter("loop_idle_seconds", "Time without anything to do, outside the model.", loop.idle_s)
        yield _histogram("partial_lag_seconds", "From the arrival of audio to its partial.", stats.partial_lags)
        yield _histogram("final_lag_seconds", "From the arrival of an utterance's end to its final.", stats.final_lags)

    def _engine(self) -> Iterator[Metric]:
        engine = self._models.current.engine
        counters = engine.counters
        yield _gauge("level", "Overload level, 0 (normal) to 4 (finals only).", engine.level)
        yield _gauge("queue_depth", "Requests waiting for the encoder.", engine.queued)
        yield _gauge("engine_working_seconds", "Duration of the current encoder call so far.", engine.working_s)
        yield _counter("engine_restarts", "Workers replaced because they hung.", counters.restarts)
        yield _counter("engine_failures", "Failed requests.", counters.failures)
        yield _counter("engine_late", "Answers after their deadline.", counters.late)
        yield _counter("engine_withdrawn", "Requests withdrawn before they were encoded.", counters.withdrawn)
        yield _counter("searches", "Answers decoded with a language model or hotwords.", counters.searches)
        yield _counter("searches_late", "Of these, answers after their deadline.", counters.late_searches)
        yield _counter("engine_busy_seconds", "Time in the encoder.", counters.busy_s)
        yield _counter(
            "encoded_seconds",
            "Encoded audio; each second of speech counts about three times.",
            counters.samples / 16_000,
        )
        yield _histogram("batch_size", "Requests in one call of the encoder.", counters.batch_sizes)
        yield _histogram("step_seconds", "Live steps, from request to answer.", counters.step_waits)
        yield _histogram("pass_seconds", "Full passes (finals), from request to answer.", counters.pass_waits)

    def _translation(self) -> Iterator[Metric]:
        service = self._models.current.translation
        counters = TranslationCounters() if service is None else service.counters
        waiting = 0 if service is None else service.waiting
        yield _gauge("translations_waiting", "Finals waiting for a translator.", waiting)
        yield _counters("translations", "Translations of finals.", counters.done, "language")
        yield _counters("translations_missing", "Finals without a translation.", counters.missing, "reason")
        yield _counter("translators_hung", "Calls of a translator that were abandoned.", counters.hung)
        yield _counter("translation_busy_seconds", "Time in translators.", counters.busy_s)
        yield _histogram("translation_lag_seconds", "From a final to its translation.", counters.waits)

    def _device(self) -> Iterator[Metric]:
        current = self._models.current
        engine = current.engine
        memory = engine.memory if isinstance(engine, RemoteEngine) else gpu_memory(current.info.device)
        if memory:
            values = {(kind,): value for kind, value in memory.items()}
            yield _gauge("gpu_memory_bytes", "GPU memory.", values, ("kind",))


def _gauge(name: str, text: str, value: Any, labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for label, number in value.items() if labels else (((), value),):
        family.add_metric(label, number)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value)


def _counters(name: str, text: str, values: Mapping[str, int], label: str) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=(label,))
    for key, number in values.items():
        family.add_metric((key,), number)
    return family


def _histogram(name: str, text: str, value: Histogram) -> Metric:
    bounds = [*(str(float(bound)) for bound in value.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(value.counts), strict=True))
    return HistogramMetricFamily(PREFIX + name, text, buckets, value.total)
