"""The measurements of a soak, and the verdict on growth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from xlsr_live.client.bench.tables import Table
from xlsr_live.client.output.latency import percentiles

from tests.load.ledger import Ledger
from tests.load.realtime_client import Lag, RealtimeClient

TENTHS: Final = 10
LATENCY_NOISE_S: Final = 0.02  # variation of latency on any machine


@dataclass(frozen=True, slots=True)
class ServerSample:
    """The server process, sampled about once a second."""

    done: float  # share of the audio that is recognized, 0..1
    at: float  # seconds since the start
    resident_mib: float
    cpu_s: float


@dataclass(slots=True)
class SoakResult:
    """Lags are those of the client in real time."""

    audio_s: float
    samples: list[ServerSample] = field(default_factory=list[ServerSample])
    partial_lags: Sequence[Lag] = ()
    final_lags: Sequence[Lag] = ()

    def memory_growth(self, percent: float) -> list[str]:
        """Violations if resident memory may grow by `percent` over its level after the first tenth."""
        later = [sample.resident_mib for sample in self.samples if sample.done >= 1 / TENTHS]
        if not later:
            return ["there is no sample of the server after the first tenth"]
        if max(later) > (1 + percent / 100) * later[0]:
            return [f"{later[0]:.1f} MiB after the first tenth, {max(later):.1f} MiB later"]
        return []

    def latency_growth(self, percent: float) -> list[str]:
        """Violations if the median latency of the last three tenths may exceed that of the second to fourth by
        `percent`."""
        wrong: list[str] = []
        for name, lags in (("partials", self.partial_lags), ("finals", self.final_lags)):
            early = percentiles([lag for done, lag in lags if 0.1 <= done < 0.4])
            late = percentiles([lag for done, lag in lags if done >= 0.7])
            if not early["count"] or not late["count"]:
                wrong.append(f"too few {name} for a verdict")
            elif late["p50"] > (1 + percent / 100) * early["p50"] + LATENCY_NOISE_S:
                wrong.append(f"{name}: {1000 * early['p50']:.0f} ms early, {1000 * late['p50']:.0f} ms late")
        return wrong

    def progress_line(self, sample: ServerSample) -> str:
        """Progress and the time left."""
        left = sample.at * (1 - sample.done) / sample.done / 60
        hours = sample.done * self.audio_s / 3600
        return f"{100 * sample.done:3.0f} %: {hours:.2f} h of audio, {sample.resident_mib:.0f} MiB, {left:.0f} min left"

    def table(self) -> Table:
        """One row for each tenth of the audio."""
        rows: list[list[str]] = []
        for tenth in range(TENTHS):
            since, until = tenth / TENTHS, (tenth + 1) / TENTHS
            samples = [sample for sample in self.samples if since <= sample.done < until]
            if not samples:
                continue
            first, last = samples[0], samples[-1]
            spent, audio = last.cpu_s - first.cpu_s, (last.done - first.done) * self.audio_s
            rows.append(
                [
                    f"{until * self.audio_s / 3600:.2f} h",
                    f"{last.at / 60:.1f}",
                    f"{min(sample.resident_mib for sample in samples):.1f}",
                    f"{max(sample.resident_mib for sample in samples):.1f}",
                    *_cells([lag for done, lag in self.partial_lags if since <= done < until]),
                    *_cells([lag for done, lag in self.final_lags if since <= done < until]),
                    f"{1000 * spent / audio:.1f}" if audio else "",
                ]
            )
        columns = ["audio", "minutes", "MiB least", "most", "partial ms p50", "p95", "final ms p50", "p95"]
        return Table("Soak, by tenths", [*columns, "CPU ms per s"], rows)


def verdict(violations: dict[str, list[str]], ledger: Ledger, client: RealtimeClient) -> Table:
    """`violations` maps each promise to its violations."""
    rows = [[promise, "; ".join(found) or "yes"] for promise, found in violations.items()]
    note = (
        f"{ledger.sessions} sessions, {ledger.left} of them abandoned; {ledger.resumed} broken connections resumed; "
        f"{ledger.refused} refused; {ledger.partials} partials, {ledger.finals} finals; "
        f"{client.rounds:.1f} rounds of the same audio in real time."
    )
    return Table("Promises", ["promise", "kept"], rows, [note])


def _cells(lags: Sequence[float]) -> list[str]:
    found = percentiles(lags)
    return [f"{1000 * found[name]:.0f}" if name in found else "" for name in ("p50", "p95")]
