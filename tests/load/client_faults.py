"""Faults of clients and networks: killed, silent, slow or vanished clients, and lossy links."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from random import Random
from typing import Any

from xlsr_live.streaming.protocol.events import Error, from_json

from tests.load.fault_scene import (
    AGAIN_S,
    BINARY,
    LOOPBACK,
    TEXT,
    Program,
    Raw,
    Scene,
    closed_with,
    frame,
    handshake,
    patiently,
    timeless,
)
from tests.support.bad_link import NEAR_ADDRESS, LinkQuality
from tests.support.wire import END, Conversation, packets, talk

# ── clients that die ──


async def reset_in_mid_frame(scene: Scene, rng: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send_program(rng.choice(scene.programs), rng.random())
    raw.writer.write(frame(BINARY, bytes(3_200))[: rng.randrange(1, 3_200)])
    with suppress(ConnectionError):
        await raw.writer.drain()
    await asyncio.sleep(rng.random() / 2)
    raw.reset()


VICTIM = """
import socket, sys, time
made = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
made.sendall(bytes.fromhex(sys.argv[2]))
made.recv(1000)
made.sendall(bytes.fromhex(sys.stdin.readline()))
print(flush=True)
time.sleep(60)
"""


async def kill_in_mid_frame(scene: Scene, rng: Random) -> None:
    program = rng.choice(scene.programs)
    data = frame(TEXT, program.start.encode())
    data += b"".join(frame(BINARY, packet) for packet in packets(program.data, program.packet))
    data = data[: rng.randrange(len(data) // 4)]

    def live_and_die() -> None:
        command = [sys.executable, "-I", "-S", "-c", VICTIM, str(scene.port), handshake(LOOPBACK, scene.port).hex()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdin is not None
            assert victim.stdout is not None
            print(data.hex(), file=victim.stdin, flush=True)
            assert victim.stdout.readline() == "\n"
            victim.kill()
            assert victim.wait() == -signal.SIGKILL

    await asyncio.to_thread(live_and_die)


async def half_close_in_mid_frame(scene: Scene, rng: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send_program(rng.choice(scene.programs), 0.3 * rng.random())
    raw.writer.write(frame(BINARY, bytes(3_200))[:1_000])
    raw.writer.write_eof()
    await raw.ended()
    raw.writer.close()


async def silence_on_an_open_connection(scene: Scene, rng: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send_program(rng.choice(scene.programs), 0.2)
    received = await closed_with(raw, 1008)
    assert received.errors[:1] == ["idle_timeout"]


async def vanished_client(scene: Scene, rng: Random) -> None:
    """A half-open connection: at some moment the link drops everything in both directions, even the close."""
    assert scene.link is not None
    link, quality = scene.link, LinkQuality()
    raw = await Raw.upgraded(scene, lambda: link.socket(quality), NEAR_ADDRESS)
    raw.send_program(rng.choice(scene.programs), 0.3 * rng.random())
    with suppress(ConnectionError):
        await raw.writer.drain()
    await asyncio.sleep(rng.random() / 2)
    quality.loss = 1.0
    raw.reset()


# ── bad networks, slow readers ──


async def through(scene: Scene, program: Program, **options: Any) -> Conversation:
    """Run the whole program in one conversation."""

    async def attempt() -> Conversation:
        made = {name: make() for name, make in options.items()}
        return await talk(scene.url.replace(LOOPBACK, NEAR_ADDRESS) if made else scene.url, program.messages, **made)

    while True:
        match received := await patiently(attempt):
            case Conversation(events=[Error(code="encoder_failed")]):  # refused after the upgrade
                await asyncio.sleep(AGAIN_S)
            case _:
                return received


async def loss_and_delay(scene: Scene, rng: Random) -> None:
    """The session takes longer; its events are the same."""
    assert scene.link is not None
    link = scene.link
    quality = LinkQuality(rng.uniform(0.01, 0.08), rng.uniform(0, 0.05), rng.uniform(0, 0.02), 0.02)
    program = rng.choice(scene.programs)

    def far() -> socket.socket:
        made = link.socket(quality)
        made.setblocking(True)
        made.settimeout(20)
        made.connect((NEAR_ADDRESS, scene.port))
        return made

    received = await through(scene, program, sock=far)
    assert timeless(received.events) == program.expected, received


async def reader_that_never_reads(scene: Scene, rng: Random) -> None:
    raw = await Raw.upgraded(scene, _small)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    raw.send_program(rng.choice(scene.programs), 0.1)
    await _flooded(raw, rng)


def _small() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    return made


async def _flooded(raw: Raw, rng: Random) -> None:
    complaint = json.dumps({"type": "hotwords", "phrases": ["".join(rng.sample("0123456789", 10))]})
    with suppress(ConnectionError):
        while not raw.writer.is_closing():  # each message gets a warning, until the server closes the connection
            raw.writer.write(500 * frame(TEXT, complaint.encode()))
            await raw.writer.drain()
            await asyncio.sleep(0.02)
    raw.reset()


async def resumption_that_is_never_read(scene: Scene, rng: Random) -> None:
    """The session drops the connection, and nothing may wait for it."""
    first = await Raw.upgraded(scene)
    first.send_program(rng.choice(scene.programs), 0.1)
    _, started = await first.frame()
    first.reset()
    token = json.loads(started).get("resume", "")  # empty after a refusal
    raw = await Raw.upgraded(scene, _small)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    raw.send(TEXT, json.dumps({"type": "start", "resume": token, "events": 1}))
    await _flooded(raw, rng)


async def slow_reader(scene: Scene, rng: Random) -> None:
    program = rng.choice(scene.programs)
    raw = await Raw.upgraded(scene)
    raw.send_program(program)
    raw.send(TEXT, END)
    text, wait = b"", 0.002 * rng.random()
    while part := await raw.reader.read(500):
        text += part
        await asyncio.sleep(wait)
    raw.writer.close()
    events = [from_json(part) for part in _texts(text)]
    finals = [line for line in timeless(events) if '"final"' in line]
    assert finals == [line for line in program.expected if '"final"' in line]


def _texts(data: bytes) -> list[bytes]:
    """Payloads of the server's text frames, without acknowledgements."""
    found: list[bytes] = []
    while len(data) >= 2:
        size, at = data[1] & 127, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        if data[0] & 15 == TEXT and b'"ack"' not in data[at : at + size]:
            found.append(data[at : at + size])
        data = data[at + size :]
    return found
