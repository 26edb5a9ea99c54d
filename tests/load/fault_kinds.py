"""Everything that can happen to a server's connections and to its encoder, one function each.

A fault is given the scene and a `Random` of its own, does its harm, and checks what the server has to say to it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

from xlsr_live.client.remote.websocket import connect
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.protocol.events import Error, Event, Final, SessionResumed, SessionStarted, from_json

from tests.load.fault_scene import (
    AGAIN_S,
    BINARY,
    CLOSE,
    LOOPBACK,
    PING,
    START,
    TEXT,
    Program,
    Raw,
    Scene,
    closed_with,
    frame,
    handshake,
    patiently,
    told,
)
from tests.support.bad_link import HERE, Quality
from tests.support.faulty_server import CURSES
from tests.support.wire import END, Heard, dial, packets, talk

# ── before the upgrade ──


async def noise_instead_of_a_request(scene: Scene, chance: Random) -> None:
    raw = await Raw.connect(scene)
    raw.writer.write(chance.randbytes(chance.randrange(1, 4_000)))
    await raw.ended()
    raw.writer.close()


async def half_a_request(scene: Scene, chance: Random) -> None:
    raw = await Raw.connect(scene)
    request = handshake(LOOPBACK, scene.port)
    raw.writer.write(request[: chance.randrange(1, len(request) - 4)])
    if chance.random() < 0.5:
        await raw.ended()
        raw.writer.close()
    else:
        raw.reset()


async def a_huge_head(scene: Scene, chance: Random) -> None:
    raw = await Raw.connect(scene)
    raw.writer.write(handshake(LOOPBACK, scene.port)[:-2] + b"X-Long: " + b"x" * chance.randrange(100_000, 300_000))
    await raw.ended()
    raw.writer.close()


# ── frames ──


async def noise_instead_of_frames(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    if chance.random() < 0.5:
        raw.say(chance.choice(scene.programs), 0.1)
    raw.writer.write(chance.randbytes(chance.randrange(2, 4_000)))
    if chance.random() < 0.5:
        raw.writer.write_eof()
        await raw.ended()
        raw.writer.close()
    else:
        raw.reset()


async def bad_utf8(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send(TEXT, START[:-1].encode() + chance.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]))
    await closed_with(raw, 1007)


async def bad_opcode(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.say(chance.choice(scene.programs), 0.05)
    raw.send(chance.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), b"x")
    await closed_with(raw, 1002)


async def a_frame_without_a_mask_or_with_reserved_bits(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    wrong = {"masked": False} if chance.random() < 0.5 else {"rsv": chance.randrange(1, 8)}
    raw.send(chance.choice([TEXT, BINARY]), b"{}", **wrong)
    await closed_with(raw, 1002)


async def a_bad_control_frame(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    match chance.randrange(4):
        case 0:
            raw.send(PING, bytes(126))
        case 1:
            raw.send(PING, b"x", final=False)
        case 2:
            raw.send(CLOSE, b"x")
        case _:
            raw.send(CLOSE, struct.pack("!H", chance.choice([0, 999, 1005, 1006, 1015, 5_000])))
    await closed_with(raw, 1002)


async def a_continuation_of_nothing(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    if chance.random() < 0.5:
        raw.send(0, b"x")
    else:  # or a new message in the middle of another
        raw.send(TEXT, START, final=False)
        raw.send(BINARY, bytes(100))
    await closed_with(raw, 1002)


async def nonsense(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    if in_session := chance.random() < 0.5:
        raw.say(chance.choice(scene.programs), 0.2)
    said, code, close = chance.choice(
        [
            ("nonsense", "not_json", 1007),
            ('{"type":"sing"}', "unknown_type", 1003),
            ('{"type":"hotwords","phrases":7}', "bad_message", 1007),
            ('{"type":"flush","now":true}', "bad_message", 1007),
            ("[" * 5_000, "bad_message", 1007),
        ]
    )
    raw.send(TEXT, said)
    heard = await closed_with(raw, close)
    assert heard.errors[:1] == [code], heard  # others may follow: half a sample is left over
    assert in_session == any(isinstance(event, SessionStarted) for event in heard.events)


# ── too much ──


async def a_frame_that_says_it_is_huge(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.say(chance.choice(scene.programs), 0.05)
    raw.send(BINARY, bytes(100), size=chance.choice([1 << 23, 1 << 33, (1 << 63) - 1]))
    await closed_with(raw, 1009)


async def a_message_that_is_too_large(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send(BINARY, bytes((1 << 20) + chance.randrange(1, 1 << 20)))
    heard = await closed_with(raw, 1009)
    assert heard.errors == ["message_too_large"]


async def a_message_without_end(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send(BINARY, bytes(1 << 19), final=False)
    for _ in range(8):
        raw.send(0, bytes(1 << 19), final=False)
    await closed_with(raw, 1009, None)


# ── clients that die ──


async def reset_in_mid_frame(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.say(chance.choice(scene.programs), chance.random())
    raw.writer.write(frame(BINARY, bytes(3_200))[: chance.randrange(1, 3_200)])
    with suppress(ConnectionError):
        await raw.writer.drain()
    await asyncio.sleep(chance.random() / 2)
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


async def killed_in_mid_frame(scene: Scene, chance: Random) -> None:
    program = chance.choice(scene.programs)
    said = frame(TEXT, program.start.encode())
    said += b"".join(frame(BINARY, packet) for packet in packets(program.data, program.packet))
    said = said[: chance.randrange(len(said) // 4)]

    def live_and_die() -> None:
        command = [sys.executable, "-I", "-S", "-c", VICTIM, str(scene.port), handshake(LOOPBACK, scene.port).hex()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdin is not None
            assert victim.stdout is not None
            print(said.hex(), file=victim.stdin, flush=True)
            assert victim.stdout.readline() == "\n"
            victim.kill()
            assert victim.wait() == -signal.SIGKILL

    await asyncio.to_thread(live_and_die)


async def half_closed_in_mid_frame(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.say(chance.choice(scene.programs), 0.3 * chance.random())
    raw.writer.write(frame(BINARY, bytes(3_200))[:1_000])
    raw.writer.write_eof()
    await raw.ended()
    raw.writer.close()


async def silence_on_an_open_connection(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.say(chance.choice(scene.programs), 0.2)
    heard = await closed_with(raw, 1008)
    assert heard.errors[:1] == ["idle_timeout"]


async def gone_without_a_word(scene: Scene, chance: Random) -> None:
    """Half-open: from some moment on nothing arrives in either direction, not even the end."""
    assert scene.link is not None
    link, quality = scene.link, Quality()
    raw = await Raw.upgraded(scene, lambda: link.socket(quality), HERE)
    raw.say(chance.choice(scene.programs), 0.3 * chance.random())
    with suppress(ConnectionError):
        await raw.writer.drain()
    await asyncio.sleep(chance.random() / 2)
    quality.loss = 1.0
    raw.reset()


# ── bad networks, slow readers ──


async def through(scene: Scene, program: Program, **options: Any) -> Heard:
    """The whole program in one conversation."""

    async def attempt() -> Heard:
        made = {name: make() for name, make in options.items()}
        return await talk(scene.url.replace(LOOPBACK, HERE) if made else scene.url, program.messages, **made)

    while True:
        match heard := await patiently(attempt):
            case Heard(events=[Error(code="encoder_failed")]):  # refused after the upgrade, before the session began
                await asyncio.sleep(AGAIN_S)
            case _:
                return heard


async def loss_and_delay(scene: Scene, chance: Random) -> None:
    """It takes longer, and that is all."""
    assert scene.link is not None
    link = scene.link
    quality = Quality(chance.uniform(0.01, 0.08), chance.uniform(0, 0.05), chance.uniform(0, 0.02), 0.02)
    program = chance.choice(scene.programs)

    def far() -> socket.socket:
        made = link.socket(quality)
        made.setblocking(True)
        made.settimeout(20)
        made.connect((HERE, scene.port))
        return made

    heard = await through(scene, program, sock=far)
    assert told(heard.events) == program.expected, heard


async def a_reader_that_never_reads(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene, _small)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    raw.say(chance.choice(scene.programs), 0.1)
    await _flooded(raw, chance)


def _small() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    return made


async def _flooded(raw: Raw, chance: Random) -> None:
    complaint = json.dumps({"type": "hotwords", "phrases": ["".join(chance.sample("0123456789", 10))]})
    with suppress(ConnectionError):
        while not raw.writer.is_closing():  # every one is answered by a warning, until the server has enough of it
            raw.writer.write(500 * frame(TEXT, complaint.encode()))
            await raw.writer.drain()
            await asyncio.sleep(0.02)
    raw.reset()


async def a_return_that_is_never_read(scene: Scene, chance: Random) -> None:
    """The session gives it up, and nothing may wait for the connection."""
    first = await Raw.upgraded(scene)
    first.say(chance.choice(scene.programs), 0.1)
    _, started = await first.frame()
    first.reset()
    token = json.loads(started).get("resume", "")  # none if it was refused after the upgrade
    raw = await Raw.upgraded(scene, _small)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    raw.send(TEXT, json.dumps({"type": "start", "resume": token, "events": 1}))
    await _flooded(raw, chance)


async def a_reader_that_dawdles(scene: Scene, chance: Random) -> None:
    program = chance.choice(scene.programs)
    raw = await Raw.upgraded(scene)
    raw.say(program)
    raw.send(TEXT, END)
    text, wait = b"", 0.002 * chance.random()
    while part := await raw.reader.read(500):
        text += part
        await asyncio.sleep(wait)
    raw.writer.close()
    events = [from_json(part) for part in _texts(text)]
    finals = [line for line in told(events) if '"final"' in line]
    assert finals == [line for line in program.expected if '"final"' in line]


def _texts(data: bytes) -> list[bytes]:
    """Payloads of the server's text frames but for acknowledgements."""
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


# ── an encoder that fails ──


async def cursed(scene: Scene, chance: Random, curse: str) -> Heard:
    # Windows take no steps, and who appends needs no final pass.
    program = chance.choice(
        [each for each in scene.programs if "window" not in each.start and "append" not in each.start]
    )
    start = json.loads(program.start)
    start["config"] = start.get("config", {}) | {"wake_ms": CURSES[curse]}
    heard = await through(scene, Program(json.dumps(start), program.data, program.packet))
    assert set(heard.errors) == {"encoder_failed"}, heard
    return heard


async def no_memory_for_a_step(scene: Scene, chance: Random) -> None:
    heard = await cursed(scene, chance, "no_memory_step")
    assert heard.finals, "the final needs no step"


async def no_memory_for_a_final(scene: Scene, chance: Random) -> None:
    heard = await cursed(scene, chance, "no_memory_pass")
    assert heard.finals, "it is made from what is known"


async def every_other_step_fails(scene: Scene, chance: Random) -> None:
    await cursed(scene, chance, "error")


async def nothing_works(scene: Scene, chance: Random) -> None:
    heard = await cursed(scene, chance, "nothing_works")
    assert not heard.finals


# ── clients that come back ──


async def a_cut_and_a_return(scene: Scene, chance: Random) -> None:
    """By the client's own library: nothing is lost or doubled."""
    program = chance.choice(scene.programs)
    start = json.loads(program.start)
    config = SessionConfig(**start.pop("config", {}))
    audio = AudioFormat(**{name: value for name, value in start.items() if name != "type"})
    data = packets(program.data, program.packet)
    cuts = {chance.randrange(1, len(data)) for _ in range(2)}

    async def attempt() -> list[Event]:
        async with connect(scene.url, config=config, audio=audio) as stream:
            events = [await anext(aiter(stream))]
            for number, packet in enumerate(data):
                if number in cuts:
                    stream._connection.transport.abort()
                await stream.send(packet)
            await stream.end()
            return events + [event async for event in stream]

    assert told(await patiently(attempt)) == program.expected


async def a_guess_at_anothers_session(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send(TEXT, json.dumps({"type": "start", "resume": chance.randbytes(24).hex(), "events": 3}))
    heard = await raw.heard()
    raw.writer.close()
    assert heard.errors == ["resume_lost"]


async def two_connections_for_one_session(scene: Scene, chance: Random) -> None:
    program = chance.choice(scene.programs)

    async def attempt() -> None:
        data = packets(program.data, program.packet)
        half = len(data) // 2
        async with dial(scene.url) as one:
            for message in (program.start, *data[:half]):
                await one.send(message)
            while not isinstance(started := from_json(await one.recv()), SessionStarted):
                assert not isinstance(started, Error)  # but for acknowledgements it is the first
            async with dial(scene.url) as other:
                await other.send(json.dumps({"type": "start", "resume": started.resume, "events": 1}))
                resumed = from_json(await other.recv())
                assert isinstance(resumed, SessionResumed)
                for message in (*packets(program.data[resumed.received * _width(program) :]), END):
                    await other.send(message)
                events = [from_json(message) async for message in other]
                finals = [event for event in events if isinstance(event, Final)]
                assert told(finals) == [line for line in program.expected if '"final"' in line]

    await patiently(attempt)


def _width(program: Program) -> int:
    start = json.loads(program.start)
    return start.get("channels", 1) * (4 if start.get("encoding") == "pcm_f32le" else 2)


NEEDS_A_LINK = (gone_without_a_word, loss_and_delay)
KINDS: tuple[Callable[[Scene, Random], Awaitable[None]], ...] = (
    noise_instead_of_a_request,
    half_a_request,
    a_huge_head,
    noise_instead_of_frames,
    bad_utf8,
    bad_opcode,
    a_frame_without_a_mask_or_with_reserved_bits,
    a_bad_control_frame,
    a_continuation_of_nothing,
    nonsense,
    a_frame_that_says_it_is_huge,
    a_message_that_is_too_large,
    a_message_without_end,
    reset_in_mid_frame,
    killed_in_mid_frame,
    half_closed_in_mid_frame,
    silence_on_an_open_connection,
    gone_without_a_word,
    loss_and_delay,
    a_reader_that_never_reads,
    a_return_that_is_never_read,
    a_reader_that_dawdles,
    no_memory_for_a_step,
    no_memory_for_a_final,
    every_other_step_fails,
    nothing_works,
    a_cut_and_a_return,
    a_guess_at_anothers_session,
    two_connections_for_one_session,
)
