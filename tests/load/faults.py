"""A fault campaign: `python -m tests.load.faults --faults 1000 --seed 1`.

Clients attack one server process with all faults of `fault_kinds`, several at once. Witnesses stream in real time all
the while. The events of a witness must equal those before the first fault, and at the end the server must hold
nothing that it did not hold before. Otherwise the exit status is 1.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import IO, Any

import numpy as np
import soundfile
from prometheus_client.parser import text_string_to_metric_families
from xlsr_live.client.output.progress import progress
from xlsr_live.client.proxies import open_url

from tests.load.fault_kinds import KINDS, NEEDS_A_LINK
from tests.load.fault_scene import LOOPBACK, Program, Scene, patiently, timeless
from tests.load.program import campaign_options
from tests.support.bad_link import BadLink, available, in_own_namespace
from tests.support.faulty_server import FaultyServerProcess
from tests.support.paths import CLIPS
from tests.support.wire import END, Conversation, dial, listen

WITNESSES = 4
AT_ONCE = 10  # faults
FAULT_S = 600.0  # time limit of a fault, for busy machines
SETTLE_S = 60.0
MAY_CHANGE = ("failures", "batch_failures", "resident_kib")


def programs(seconds: float = 6.0) -> list[Program]:
    """Programs with real clips and various settings and formats."""
    clips = [soundfile.read(CLIPS / f"{name}.flac", dtype="int16")[0] for name in ("george", "jackson", "nicolas")]
    george, jackson, nicolas = (clip[: round(16_000 * seconds)] for clip in clips)
    quiet = np.zeros(8_000, np.int16)
    floats = (np.repeat(jackson, 6) / np.float32(32_768)).astype("<f4")  # 48 kHz, stereo
    grammar = {"grammar": "digits: (digits: <digits>)", "hotwords": ["TWO FOUR:3"]}
    return [
        Program('{"type":"start"}', np.concatenate((george, quiet, jackson[:24_000])).tobytes(), 3_200),
        Program(json.dumps({"type": "start", "config": {"mode": "window"}}), nicolas.tobytes(), 3_201),
        Program('{"type":"start","encoding":"pcm_f32le","sample_rate":48000,"channels":2}', floats.tobytes(), 38_400),
        Program(json.dumps({"type": "start", "config": grammar}), nicolas.tobytes(), 3_200),
        Program(json.dumps({"type": "start", "config": {"finals": "append"}}), jackson.tobytes(), 3_200),
    ]


@dataclass
class FaultCampaign:
    """Counts and problems."""

    done: Counter[str] = field(default_factory=Counter[str])
    sessions: int = 0  # of witnesses
    events: int = 0
    problems: list[str] = field(default_factory=list[str])
    before: dict[str, int] = field(default_factory=dict[str, int])
    after: dict[str, int] = field(default_factory=dict[str, int])

    def table(self) -> Iterator[str]:
        for kind, count in self.done.items():
            yield f"{count:6d}  {kind.replace('_', ' ')}"
        yield f"{self.done.total():6d}  in all; witnesses: {self.sessions} sessions, {self.events} events"
        yield "before: " + ", ".join(f"{count} {name}" for name, count in self.before.items())
        yield "after:  " + ", ".join(f"{count} {name}" for name, count in self.after.items())
        yield from self.problems or ["every witness received the events of before, and nothing is left"]


async def witnessed(scene: Scene, program: Program) -> Conversation:
    """Run a program in real time."""

    async def attempt() -> Conversation:
        loop = asyncio.get_running_loop()
        async with dial(scene.url) as websocket:
            listening = asyncio.create_task(listen(websocket))
            started, messages = loop.time(), program.messages
            seconds = len(program.data) / program.packet / _rate(program)
            for number, message in enumerate(messages):
                await asyncio.sleep(started + seconds * number / len(messages) - loop.time())
                await websocket.send(message)
            assert messages[-1] == END
            return Conversation(await listening, websocket.close_code, websocket.close_reason)

    return await patiently(attempt)


def _rate(program: Program) -> float:
    """Approximate packets per second."""
    start = json.loads(program.start)
    width = start.get("channels", 1) * (4 if start.get("encoding") == "pcm_f32le" else 2)
    return width * start.get("sample_rate", 16_000) / program.packet


async def campaign(
    faults: int, seed: int, server: FaultyServerProcess, link: BadLink | None, scripts: list[Program]
) -> FaultCampaign:
    """Run the faults, all kinds about equally often. Failures go to `problems`."""
    found = FaultCampaign()
    scene = Scene(server.port, scripts, link)
    received = await asyncio.gather(*(witnessed(scene, program) for program in scripts))
    for program, one in zip(scripts, received, strict=True):
        program.expected.extend(timeless(one.events))
        assert len(one.finals) >= 1
        assert not one.errors, one.errors
    found.before = await settled(server, {})
    kinds = [kind for kind in KINDS if link is not None or kind not in NEEDS_A_LINK]
    order = [kinds[number % len(kinds)] for number in range(faults)]
    Random(seed).shuffle(order)
    waiting = iter(enumerate(order))
    over = asyncio.Event()

    async def witness(number: int) -> None:
        while not over.is_set():
            program = scripts[(number + found.sessions) % len(scripts)]
            found.sessions += 1
            try:
                received = await witnessed(scene, program)
            except Exception as error:
                found.problems.append(f"a witness: {error!r}")
                return
            found.events += len(received.events)
            if (got := timeless(received.events)) != program.expected or received.code != 1000:
                differing = [(a, b) for a, b in zip(got, program.expected, strict=False) if a != b]
                counts = f"{len(got)} events, not {len(program.expected)}"
                found.problems.append(f"a witness received {counts}; {received.code}; {differing[:1]}")

    async def inject_faults() -> None:
        for number, kind in waiting:
            try:
                async with asyncio.timeout(FAULT_S):
                    await kind(scene, Random(f"{seed} {number}"))
            except Exception as error:
                why = traceback.format_exception(error)[-2:]
                found.problems.append(f"fault {number}, {kind.__name__}: {' '.join(why)[:2_000]}")
            found.done[kind.__name__] += 1
            advance()

    with progress(faults) as (advance, _):
        witnesses = [asyncio.create_task(witness(number)) for number in range(WITNESSES)]
        await asyncio.gather(*(inject_faults() for _ in range(AT_ONCE)))
        over.set()
        await asyncio.gather(*witnesses)
    found.after = await settled(server, found.before)
    for name in found.before.keys() - set(MAY_CHANGE):
        if found.after[name] > found.before[name]:
            found.problems.append(f"{name}: {found.before[name]} before, {found.after[name]} after")
    found.problems += inconsistencies(await asyncio.to_thread(metrics, server.port), found)
    return found


async def settled(server: FaultyServerProcess, at: dict[str, int]) -> dict[str, int]:
    """The census once it does not exceed `at`, or after `SETTLE_S`."""
    until = time.monotonic() + SETTLE_S
    while True:
        census = await asyncio.to_thread(server.census)
        most = at or dict.fromkeys(("open", "kept", "connections", "sessions", "queued", "memories", "slots"), 0)
        over = [name for name, count in most.items() if name not in MAY_CHANGE and census[name] > count]
        if not over or time.monotonic() > until:
            return census
        await asyncio.sleep(0.5)


def metrics(port: int) -> dict[str, float]:
    with open_url(f"http://{LOOPBACK}:{port}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        sample.name.removeprefix("xlsr_live_") + "".join(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def inconsistencies(found: dict[str, float], campaign: FaultCampaign) -> list[str]:
    """Contradictions between the server's counters and the campaign."""
    encoder = sum(campaign.done[kind] for kind in ("no_memory_for_a_step", "every_other_step_fails"))
    equal = {
        "sessions_open": 0,
        "queue_depth": 0,
        "dropped_samples_total": 0,
        "engine_restarts_total": 0,
        "ready": 1,
        "engine_failures_total": campaign.after["failures"],
        "final_lag_seconds_count": found["finals_total"],
        "partial_lag_seconds_count": found["partials_total"],
        "batch_size_sum": found["step_seconds_count"] + found["pass_seconds_count"],
    }
    least = {
        "sessions_totalnative": campaign.sessions,
        "errors_totalencoder_failed": encoder,
        "errors_totalidle_timeout": campaign.done["silence_on_an_open_connection"],
        "errors_totalmessage_too_large": campaign.done["a_message_that_is_too_large"],
        "errors_totalslow_reader": campaign.done["a_reader_that_never_reads"],
        "errors_totalresume_lost": campaign.done["a_guess_at_anothers_session"],
        "resumed_total": campaign.done["two_connections_for_one_session"],
    }
    wrong = [f"{name} is {found[name]:g}, not {value:g}" for name, value in equal.items() if found[name] != value]
    wrong += [f"{name} is {found.get(name, 0):g}, below {n}" for name, n in least.items() if found.get(name, 0) < n]
    return wrong


def run(faults: int, seed: int, model: str, log: IO[Any]) -> FaultCampaign:
    """Run the campaign in a network namespace; without permission for that, run it without the faults that need one."""

    def here(link: BadLink | None) -> FaultCampaign:
        scripts = programs()
        server = FaultyServerProcess(model, LOOPBACK if link is None else "0.0.0.0", log)
        try:
            found = asyncio.run(campaign(faults, seed, server, link, scripts))
        finally:
            status = server.close()
        if status:
            found.problems.append(f"the server ended with status {status}")
        return found

    def isolated() -> FaultCampaign:
        with BadLink(seed) as link:
            found = here(link)
        if any(found.done[kind.__name__] for kind in NEEDS_A_LINK) and not link.lost:
            found.problems.append("the bad link lost nothing")
        return found

    return in_own_namespace(isolated) if available() else here(None)


def main(arguments: Sequence[str] | None = None) -> int:
    options = campaign_options(__doc__, arguments, faults=1_000)
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        found = run(options.faults, options.seed, options.model, log)
        print("\n".join(found.table()))
        print(f"{time.monotonic() - started:.0f} s; network faults: {'yes' if available() else 'no, they need root'}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
