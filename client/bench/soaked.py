"""What a soak found, and whether anything grew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ..output.latency import percentiles
from .account import Account
from .steady import Lag, Steady
from .tables import Table

TENTHS: Final = 10
FLOOR_S: Final = 0.02  # of latency that may come and go on any machine


@dataclass(frozen=True, slots=True)
class Look:
    """At the server, about once a second."""

    done: float  # share of the audio that had been heard, 0..1
    at: float  # seconds since the start
    resident_mib: float
    cpu_s: float


@dataclass(slots=True)
class Soaked:
    """Lags are those of the client that speaks in real time."""

    audio_s: float
    looks: list[Look] = field(default_factory=list[Look])
    partial_lags: Sequence[Lag] = ()
    final_lags: Sequence[Lag] = ()

    def grown(self, percent: float) -> list[str]:
        """What is wrong if resident memory may grow by so much over its level after the first tenth."""
        later = [look.resident_mib for look in self.looks if look.done >= 1 / TENTHS]
        if not later:
            return ["the server was not looked at after the first tenth"]
        if max(later) > (1 + percent / 100) * later[0]:
            return [f"{later[0]:.1f} MiB after the first tenth, {max(later):.1f} MiB later"]
        return []

    def slower(self, percent: float) -> list[str]:
        """What is wrong if the median latency of the last three tenths may be above that of the three after the first
        by so much."""
        wrong: list[str] = []
        for name, lags in (("partials", self.partial_lags), ("finals", self.final_lags)):
            early = percentiles([lag for done, lag in lags if 0.1 <= done < 0.4])
            late = percentiles([lag for done, lag in lags if done >= 0.7])
            if not early["count"] or not late["count"]:
                wrong.append(f"too few {name} came to judge by")
            elif late["p50"] > (1 + percent / 100) * early["p50"] + FLOOR_S:
                wrong.append(f"{name}: {1000 * early['p50']:.0f} ms early, {1000 * late['p50']:.0f} ms late")
        return wrong

    def line(self, look: Look) -> str:
        """How far it has come, and how long it will take."""
        left = look.at * (1 - look.done) / look.done / 60
        heard = look.done * self.audio_s / 3600
        return f"{100 * look.done:3.0f} %: {heard:.2f} h of audio, {look.resident_mib:.0f} MiB, {left:.0f} min left"

    def tenths(self) -> Table:
        rows: list[list[str]] = []
        for tenth in range(TENTHS):
            since, until = tenth / TENTHS, (tenth + 1) / TENTHS
            looks = [look for look in self.looks if since <= look.done < until]
            if not looks:
                continue
            spent, audio = looks[-1].cpu_s - looks[0].cpu_s, (looks[-1].done - looks[0].done) * self.audio_s
            rows.append(
                [
                    f"{until * self.audio_s / 3600:.2f} h",
                    f"{looks[-1].at / 60:.1f}",
                    f"{min(look.resident_mib for look in looks):.1f}",
                    f"{max(look.resident_mib for look in looks):.1f}",
                    *_cells([lag for done, lag in self.partial_lags if since <= done < until]),
                    *_cells([lag for done, lag in self.final_lags if since <= done < until]),
                    f"{1000 * spent / audio:.1f}" if audio else "",
                ]
            )
        columns = ["audio", "minutes", "MiB least", "most", "partial ms p50", "p95", "final ms p50", "p95"]
        return Table("Soak, by tenths", [*columns, "CPU ms per s"], rows)


def verdict(wrong: dict[str, list[str]], account: Account, steady: Steady) -> Table:
    """`wrong` says of each promise how it was broken, if it was."""
    rows = [[promise, "; ".join(how) or "yes"] for promise, how in wrong.items()]
    return Table(
        "What was promised",
        ["promise", "kept"],
        rows,
        [
            f"{account.sessions} sessions, {account.left} of which left before their end; {account.resumed} times a "
            f"connection broke and was made again; {account.refused} refused; {account.partials} partials, "
            f"{account.finals} finals; {steady.rounds:.1f} rounds of the same audio.",
        ],
    )


def _cells(lags: Sequence[float]) -> list[str]:
    found = percentiles(lags)
    return [f"{1000 * found[name]:.0f}" if name in found else "" for name in ("p50", "p95")]
