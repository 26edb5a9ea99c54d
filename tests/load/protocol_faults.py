"""Faults on the wire: malformed, oversized and meaningless requests, frames and messages."""

from __future__ import annotations

import struct
from random import Random

from xlsr_live.streaming.protocol.events import SessionStarted

from tests.load.fault_scene import (
    BINARY,
    CLOSE,
    LOOPBACK,
    PING,
    START,
    TEXT,
    Raw,
    Scene,
    closed_with,
    handshake,
)

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


async def huge_request_head(scene: Scene, chance: Random) -> None:
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


async def frame_without_a_mask_or_with_reserved_bits(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    wrong = {"masked": False} if chance.random() < 0.5 else {"rsv": chance.randrange(1, 8)}
    raw.send(chance.choice([TEXT, BINARY]), b"{}", **wrong)
    await closed_with(raw, 1002)


async def bad_control_frame(scene: Scene, chance: Random) -> None:
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


async def continuation_without_a_message(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    if chance.random() < 0.5:
        raw.send(0, b"x")
    else:  # or a new message in the middle of another
        raw.send(TEXT, START, final=False)
        raw.send(BINARY, bytes(100))
    await closed_with(raw, 1002)


async def random_messages(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    if in_session := chance.random() < 0.5:
        raw.say(chance.choice(scene.programs), 0.2)
    said, code, close = chance.choice(
        [
            ("random_messages", "not_json", 1007),
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


async def frame_with_a_huge_declared_size(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.say(chance.choice(scene.programs), 0.05)
    raw.send(BINARY, bytes(100), size=chance.choice([1 << 23, 1 << 33, (1 << 63) - 1]))
    await closed_with(raw, 1009)


async def message_above_the_limit(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send(BINARY, bytes((1 << 20) + chance.randrange(1, 1 << 20)))
    heard = await closed_with(raw, 1009)
    assert heard.errors == ["message_too_large"]


async def endless_message(scene: Scene, chance: Random) -> None:
    raw = await Raw.upgraded(scene)
    raw.send(BINARY, bytes(1 << 19), final=False)
    for _ in range(8):
        raw.send(0, bytes(1 << 19), final=False)
    await closed_with(raw, 1009, None)
