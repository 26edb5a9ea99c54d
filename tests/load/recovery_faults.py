"""Faults of the encoder, and clients that resume a session."""

from __future__ import annotations

import json
from random import Random

from xlsr_live.client.remote.websocket import connect
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.protocol.events import Error, Event, Final, SessionResumed, SessionStarted, from_json

from tests.load.client_faults import through
from tests.load.fault_scene import (
    TEXT,
    Program,
    Raw,
    Scene,
    patiently,
    timeless,
)
from tests.support.faulty_server import INJECTIONS
from tests.support.wire import END, Conversation, dial, packets

# ── an encoder that fails ──


async def with_injection(scene: Scene, rng: Random, injection: str) -> Conversation:
    # Window mode takes no cached steps, and finals="append" needs no second pass.
    program = rng.choice([each for each in scene.programs if "window" not in each.start and "append" not in each.start])
    start = json.loads(program.start)
    start["config"] = start.get("config", {}) | {"wake_ms": INJECTIONS[injection]}
    received = await through(scene, Program(json.dumps(start), program.data, program.packet))
    assert set(received.errors) == {"encoder_failed"}, received
    return received


async def no_memory_for_a_step(scene: Scene, rng: Random) -> None:
    received = await with_injection(scene, rng, "no_memory_step")
    assert received.finals, "the final needs no step"


async def no_memory_for_a_final(scene: Scene, rng: Random) -> None:
    received = await with_injection(scene, rng, "no_memory_pass")
    assert received.finals, "the final consists of the committed words"


async def every_other_step_fails(scene: Scene, rng: Random) -> None:
    await with_injection(scene, rng, "error")


async def every_request_fails(scene: Scene, rng: Random) -> None:
    received = await with_injection(scene, rng, "every_request_fails")
    assert not received.finals


# ── clients that come back ──


async def cut_and_resumption(scene: Scene, rng: Random) -> None:
    """The client library loses and duplicates nothing."""
    program = rng.choice(scene.programs)
    start = json.loads(program.start)
    config = SessionConfig(**start.pop("config", {}))
    audio = AudioFormat(**{name: value for name, value in start.items() if name != "type"})
    data = packets(program.data, program.packet)
    cuts = {rng.randrange(1, len(data)) for _ in range(2)}

    async def attempt() -> list[Event]:
        async with connect(scene.url, config=config, audio=audio) as stream:
            events = [await anext(aiter(stream))]
            for number, packet in enumerate(data):
                if number in cuts:
                    stream._connection.transport.abort()
                await stream.send(packet)
            await stream.end()
            return events + [event async for event in stream]

    assert timeless(await patiently(attempt)) == program.expected


async def guessed_resume_token(scene: Scene, rng: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send(TEXT, json.dumps({"type": "start", "resume": rng.randbytes(24).hex(), "events": 3}))
    received = await raw.receive()
    raw.writer.close()
    assert received.errors == ["resume_lost"]


async def two_connections_for_one_session(scene: Scene, rng: Random) -> None:
    program = rng.choice(scene.programs)

    async def attempt() -> None:
        data = packets(program.data, program.packet)
        half = len(data) // 2
        async with dial(scene.url) as one:
            for message in (program.start, *data[:half]):
                await one.send(message)
            while not isinstance(started := from_json(await one.recv()), SessionStarted):
                assert not isinstance(started, Error)  # it is the first event except acknowledgements
            async with dial(scene.url) as other:
                await other.send(json.dumps({"type": "start", "resume": started.resume, "events": 1}))
                resumed = from_json(await other.recv())
                assert isinstance(resumed, SessionResumed)
                for message in (*packets(program.data[resumed.received * _width(program) :]), END):
                    await other.send(message)
                events = [from_json(message) async for message in other]
                finals = [event for event in events if isinstance(event, Final)]
                assert timeless(finals) == [line for line in program.expected if '"final"' in line]

    await patiently(attempt)


def _width(program: Program) -> int:
    start = json.loads(program.start)
    return start.get("channels", 1) * (4 if start.get("encoding") == "pcm_f32le" else 2)
