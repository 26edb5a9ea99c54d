"""The page's JavaScript modules against their counterparts in Python."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import msgspec
from xlsr_live.client.output.formats import Vtt
from xlsr_live.client.remote.replay import ReplayBuffer
from xlsr_live.server.run import RunningServer
from xlsr_live.streaming.captions.case import small
from xlsr_live.streaming.captions.cues import cues
from xlsr_live.streaming.captions.subtitles import srt
from xlsr_live.streaming.languages import tag_of
from xlsr_live.streaming.protocol.events import Event, Final, Word, to_json

CODES = (
    *("deu", "cmn", "cmn-script_simplified", "cmn_Hans", "azj-script_cyrillic", "kmr-script_arabic", "hbs", "eng_Latn"),
    *(
        "urd-script_devanagari",
        "uzb-script_cyrillic",
        "arb",
        "ekk",
        "npi",
        "zsm",
        "swh",
        "tgl",
        "pes",
        "ory",
        "srp_Cyrl",
    ),
    *("quy-dialect_ayacucho", "quc-dialect_north", "ybe", "plt", "nob", "yue", "iku", "khk", "azj-script_latin", "xho"),
)


def vtt_file(events: Sequence[Event]) -> str:
    out = StringIO()
    with Vtt(out) as output:
        output.begin("talk")
        for event in events:
            output.show(event)
    return out.getvalue()


def test_a_language_has_the_same_tag(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    codes = [*CODES, "", None, "und", "zzz9", "<b>", "x" * 60]
    tags = page.evaluate(
        """async (codes) => codes.map((await import("/page/languages.js")).tagOf)""",
        codes,
    )
    assert tags == [tag_of(code or "") for code in codes]


def test_a_word_has_the_same_sentence_case(opened: Callable[..., Any], server: RunningServer):
    words = [
        "A",
        "I",
        "B",
        "AN",
        "I'M",
        "I'",
        "ÉTIENNE",
        "ÉÉ",
        "ΟΔΟΣ",
        "İZMİR",
        "ẞ",
        "SS",
        "你",
        "你好",
        "\U00010400",
        "X1",
        "'TIS",
    ]
    words += ["".join(random.Random(seed).choices("ABIÉ'Σ\U00010400", k=1 + seed % 5)) for seed in range(100)]
    made = opened(server.port).evaluate(
        """async (words) => {
        const { hasSmall, small } = await import("/page/case.js");
        const marks = (word) => [hasSmall(word), hasSmall(word.toLowerCase())];
        return words.map((word) => [small(word, true), small(word, false), ...marks(word)]);
    }""",
        words,
    )
    for word, (first, other, *marks) in zip(words, made, strict=True):
        assert (first, other) == (small(word, first=True), small(word)), word
        assert marks == [any(map(str.islower, each)) for each in (word, word.lower())], word


def test_line_breaks_keep_all_words_and_never_change(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    broken = page.evaluate("""async () => {
        const { breakLines, aligned } = await import("/page/lines.js");
        const fits = (text) => text.length <= 20;
        const failures = [];
        for (let round = 0; round < 300; round += 1) {
            const length = () => 1 + Math.floor(8 * Math.random());
            const words = Array.from({ length: 30 }, () => "x".repeat(length()));
            const whole = breakLines(words, " ", fits);
            for (let count = 0; count <= 30; count += 1) {
                const some = breakLines(words.slice(0, count), " ", fits);
                if (String(some) !== String(whole.filter((at) => at < count))) failures.push("a line changed");
            }
            whole.forEach((first, row) => {
                const line = words.slice(first, whole[row + 1]).join(" ");
                if (!fits(line)) failures.push(line);
            });
            const other = [...words];
            other.splice(Math.floor(30 * Math.random()), 1 + Math.floor(2 * Math.random()), "y");
            const places = aligned(words, other).filter((at) => at !== null);
            if (places.some((at, index) => index && at <= places[index - 1])) failures.push("out of order");
            if (aligned(words, words).some((at, index) => at !== index)) failures.push("not the same");
        }
        return failures;
    }""")
    assert broken == []


def test_replay_sends_what_the_python_client_sends(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    rng = random.Random(1)
    script = [rng.choice([2 * rng.randrange(1, 30), '{"type":"flush"}']) for _ in range(80)]
    total = sum(size for size in script if isinstance(size, int)) // 2
    positions = sorted(rng.randrange(total + 1) for _ in range(10))
    replay = ReplayBuffer(2)
    for step in script:
        replay.add(bytes(step) if isinstance(step, int) else step)

    def sizes(parts: Sequence[bytes | str]) -> list[int | str]:
        return [part if isinstance(part, str) else len(part) for part in parts]

    replay.keeps = True
    expected: list[list[int | str]] = []
    for at in positions:
        expected.append(sizes(replay.since(at)))
        replay.acknowledge(at, at // 2)
    expected.append(sizes(replay.restart()))
    got = page.evaluate(
        """async ([script, positions]) => {
        const { Replay } = await import("/page/replay.js");
        const replay = new Replay();
        for (const step of script) replay.add(typeof step === "string" ? step : new Uint8Array(step));
        const sizes = (parts) => parts.map((part) => (typeof part === "string" ? part : part.length));
        replay.keeps = true;
        const resent = positions.map((at) => {
            const rest = sizes(replay.since(at));
            replay.acknowledge(at, Math.floor(at / 2));
            return rest;
        });
        return [...resent, sizes(replay.restart())]; // the last: for another server
    }""",
        [script, positions],
    )
    assert got == expected


def test_subtitles_equal_those_of_transcribe(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    rng = random.Random(2)
    texts = ["I", "the", "and", "BECAUSE", "of", "was", "house", "<i>", "fish&", "\N{GRINNING FACE}", "don't", "x" * 60]
    finals, now = [], 0.0
    for number in range(60):
        words = []
        for _ in range(rng.randrange(1, 40)):
            now = round(now + rng.choice([0.0, 0.02, 0.1, 0.3, 1.3]), 3)
            end = round(now + rng.uniform(0.05, 0.6), 3)
            words.append(Word(rng.choice(texts), now, end, 0.9))
            now = end
        text = rng.choice([" ", " ", ""]).join(word.word for word in words)
        final = Final(utterance=number, text=text, words=tuple(words), start=0.0, end=now + 0.2, confidence=0.9)
        code = rng.choice([*CODES, "zzz9"])  # the last is in no standard
        finals.append(msgspec.structs.replace(final, language=code) if number else final)
        now += 0.3
    made = page.evaluate(
        """async (finals) => {
        const { FORMATS } = await import("/page/download.js");
        return [FORMATS.vtt.write(finals), FORMATS.vtt.write(finals.slice(1)), FORMATS.srt.write(finals)];
    }""",
        [json.loads(to_json(final)) for final in finals],
    )
    found = list(cues(finals))
    assert len(found) > 100
    assert made[0] == vtt_file(finals)
    assert made[1] == vtt_file(finals[1:])
    assert made[2] == "".join(srt(number, cue) for number, cue in enumerate(found, 1))
