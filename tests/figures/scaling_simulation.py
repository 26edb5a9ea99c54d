"""Many sessions on several machines, of which one fails: its sessions move, and their last audio is recognized again.

Live audio goes first, as in the server; what a process and a GPU have left works off the replayed audio in the order of
its arrival, first the front, then the encoder. Sessions begin and end all the time. One seed gives one result.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from random import Random
from typing import Final

from tests.figures.scaling_plan import Costs, MachineType

STEP_S: Final = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # of a client between attempts, as in `client/remote/stream.py`
PROBE_S: Final = 2.0  # how often the balancer learns which processes are full
PING_S: Final = 5.0  # between pings of the server
CONNECT_S: Final = 10.0  # after which an attempt to reach a lost machine fails
FAILS_AT: Final = 30.0


class Failure(Enum):
    PROCESS = "a front process dies"  # its connections break at once
    MACHINE = "a machine loses power"  # its connections fall silent


@dataclass(eq=False)
class _Client:
    ends: float
    tries_until: float = 0.0
    process: _Process | None = None
    failed_at: float | None = None  # while it has no service because of the failure
    pause: float = FIRST_PAUSE_S


@dataclass
class _Replay:
    client: _Client
    audio_s: float
    left: float  # of it, in the present stage


@dataclass(eq=False)
class _Process:
    machine: int
    alive: bool = True
    listed: bool = True  # by the balancer
    clients: dict[_Client, None] = field(default_factory=dict[_Client, None])  # in their order
    queue: deque[_Replay] = field(default_factory=deque[_Replay])


@dataclass
class ScaleResult:
    """Counts of sessions; times are seconds after the failure."""

    came: int = 0  # all that wanted a place
    placed: int = 0  # at the beginning
    began: int = 0  # later
    turned_away: int = 0  # at the beginning, or later after some attempts
    trying: int = 0  # at the end, still for their first place
    ended: int = 0
    open: int = 0  # at the end
    failed: int = 0  # lost their server
    moved: int = 0  # of these, are served again
    gave_up: int = 0
    waiting: int = 0  # still without service at the end
    seeking: int = 0  # of these, without a place
    times: list[float] = field(default_factory=list[float])  # until a moved session is served again
    unserved: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])  # by time
    gbit: float = 0.0  # most replayed audio under way to the servers, per second
    fullest: int = 0  # most sessions of one process

    @property
    def all_served(self) -> float | None:
        """When every session was served again; None if some were not."""
        return None if self.gave_up or self.waiting or not self.times else self.times[-1]


class ScaleSimulation:
    """`run` gives the result of one failure of the machine number `victim`, or of its first process."""

    def __init__(
        self,
        streams: int,
        machines: int,
        failure: Failure,
        costs: Costs,
        machine: MachineType,
        seed: int = 1,
        victim: int = 0,
    ) -> None:
        self._streams, self._costs, self._silent = streams, costs, failure is Failure.MACHINE
        self._slots = machine.slots(costs)
        self._processes = [_Process(at) for at in range(machines) for _ in range(machine.processes)]
        self._encoders: list[deque[_Replay]] = [deque() for _ in range(machines)]
        self._ready = list(self._processes)
        self._victim = victim
        self._rng = Random(seed)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._sending: list[float] = []  # when each replay under way has arrived
        self._now = 0.0
        self._result = ScaleResult()

    def run(self, seconds: float = 200.0) -> ScaleResult:
        self._begin()
        self._at(FAILS_AT, self._fail)
        for step in range(round(seconds / STEP_S)):
            self._now = step * STEP_S
            if step % round(PROBE_S / STEP_S) == 0:
                self._ready = [each for each in self._processes if each.listed and len(each.clients) < self._slots]
            while self._due and self._due[0][0] <= self._now:
                heapq.heappop(self._due)[2]()
            self._work()
            self._observe()
        result, clients = self._result, [client for each in self._processes for client in each.clients]
        result.open = len(clients)
        result.waiting = result.failed - result.moved - result.gave_up
        result.seeking = result.waiting - sum(client.failed_at is not None for client in clients)
        return result

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), what))

    # ── sessions begin and end ──

    def _begin(self) -> None:
        """All sessions at once, evenly spread; afterwards as many begin as end."""
        places = [process for _ in range(self._slots) for process in self._processes]
        for process in places[: self._streams]:
            self._open(self._new_client(), process)
        self._result.came = self._streams
        self._result.placed = min(self._streams, len(places))
        self._result.turned_away = self._streams - self._result.placed
        self._at(self._gap(), self._arrive)

    def _new_client(self) -> _Client:
        return _Client(ends=self._now + self._rng.expovariate(1 / self._costs.session_s))

    def _gap(self) -> float:
        """Until the next session begins."""
        return self._rng.expovariate(self._streams / self._costs.session_s)

    def _arrive(self) -> None:
        client = self._new_client()
        client.tries_until = self._now + self._costs.give_up_s
        self._result.came += 1
        self._result.trying += 1
        self._start(client)
        self._at(self._now + self._gap(), self._arrive)

    def _start(self, client: _Client) -> None:
        if (process := self._choose()) is not None:
            self._open(client, process)
            self._result.began += 1
            self._result.trying -= 1
        elif self._now < client.tries_until:
            wait = self._costs.retry_after_s * self._rng.uniform(1, 1.5)
            self._at(self._now + wait, lambda: self._start(client))
        else:
            self._result.turned_away += 1
            self._result.trying -= 1

    def _choose(self) -> _Process | None:
        """A process that the balancer believes to have room; None if it has none, or is gone."""
        process = self._rng.choice(self._ready) if self._ready else None
        return process if process is not None and process.alive and len(process.clients) < self._slots else None

    def _open(self, client: _Client, process: _Process) -> None:
        self._enter(client, process)
        self._at(client.ends, lambda: self._end(client))

    def _enter(self, client: _Client, process: _Process) -> None:
        client.process = process
        process.clients[client] = None
        self._result.fullest = max(self._result.fullest, len(process.clients))

    def _end(self, client: _Client) -> None:
        if client.process is not None and client.failed_at is None:  # else its last text comes first, or never
            del client.process.clients[client]
            client.process = None
            self._result.ended += 1

    # ── the failure ──

    def _fail(self) -> None:
        machine = [each for each in self._processes if each.machine == self._victim]
        for process in machine if self._silent else machine[:1]:
            process.alive = False
            self._at(self._removed(self._now), lambda process=process: setattr(process, "listed", False))
            for client in process.clients:
                client.process, client.failed_at = None, self._now
                noticed = self._now + (self._costs.silent_s - self._rng.uniform(0, PING_S) if self._silent else 0.0)
                client.tries_until = noticed + self._costs.give_up_s
                self._at(noticed, lambda client=client: self._reconnect(client))
            self._result.failed += len(process.clients)
            process.clients.clear()
            process.queue.clear()

    def _removed(self, failed_at: float) -> float:
        """When the balancer knows."""
        return failed_at + (self._costs.lost_removed_s if self._silent else self._costs.removed_s)

    def _reconnect(self, client: _Client) -> None:
        """One attempt. A balancer that binds clients sends it to the old process until that is removed."""
        assert client.failed_at is not None
        left = self._removed(client.failed_at) - self._now
        process = self._choose() if left <= 0 else None
        if process is not None:
            self._enter(client, process)
            audio_s = self._costs.replay_s + self._rng.expovariate(1 / self._costs.open_s)
            audio_s += self._now - client.failed_at
            process.queue.append(_Replay(client, audio_s, audio_s))
            self._sending.append(self._now + 8e-6 * audio_s * self._costs.up_bytes / self._costs.uplink_mbit)
            return
        wait = client.pause * self._rng.uniform(0.5, 1.5)
        wait += min(CONNECT_S, left) if self._silent and left > 0 else 0.0
        client.pause = min(2 * client.pause, LONGEST_PAUSE_S)
        if self._now + wait > client.tries_until:
            client.failed_at = None
            self._result.gave_up += 1
        else:
            self._at(self._now + wait, lambda: self._reconnect(client))

    # ── recognizing again ──

    def _work(self) -> None:
        """One step of all fronts and encoders, with what their live audio leaves."""
        live = [0] * len(self._encoders)
        for process in self._processes:
            live[process.machine] += len(process.clients)
            room = self._costs.process_streams - len(process.clients)
            for replay in _worked_off(process.queue, room * STEP_S):
                replay.left = replay.audio_s
                self._encoders[process.machine].append(replay)
        for encoder, streams in zip(self._encoders, live, strict=True):
            for replay in _worked_off(encoder, (self._costs.gpu_streams - streams) * STEP_S):
                self._served(replay.client)

    def _served(self, client: _Client) -> None:
        assert client.failed_at is not None
        self._result.moved += 1
        self._result.times.append(self._now - client.failed_at)
        client.failed_at = None
        if client.ends <= self._now:
            self._end(client)

    def _observe(self) -> None:
        result, since = self._result, self._now - FAILS_AT
        if since >= 0:
            result.unserved.append((since, result.failed - result.moved - result.gave_up))
        self._sending = [arrives for arrives in self._sending if arrives > self._now]
        result.gbit = max(result.gbit, len(self._sending) * self._costs.uplink_mbit / 1000)


def _worked_off(queue: deque[_Replay], room: float) -> list[_Replay]:
    """Work on the first replays with room for `room` seconds of audio; those that are done."""
    done: list[_Replay] = []
    while queue and room > 0:
        part = min(room, queue[0].left)
        queue[0].left -= part
        room -= part
        if queue[0].left <= 1e-9:
            done.append(queue.popleft())
    return done
