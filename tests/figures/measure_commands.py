"""Voice commands, wake phrases, hotwords: `python -m tests.figures.measure_commands [--model M] [--plot PNG]`.

Not part of the test suite; a few minutes. It needs the speech collection (XLSR_LIVE_SPEECH). The threshold comes from
held-out speakers and noise of the training side, the figures from the test side.
"""

from __future__ import annotations

import argparse
import pickle
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np
import soundfile
from xlsr_live.streaming import Command, Recognizer, Rejected, SessionConfig
from xlsr_live.streaming.commands.compiled import CompiledGrammar
from xlsr_live.streaming.commands.decision import Decision, Strictness
from xlsr_live.streaming.commands.hotwords import HotwordDecoder
from xlsr_live.streaming.commands.matcher import CommandMatcher
from xlsr_live.streaming.commands.spotting import Phrases
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.training.recipe.prepare import noise_in, speech_in, split

from tests.support.paths import SPEECH
from tests.support.speech import listed

GRAMMAR = """
yes: yes
no: no
go: go
stop: stop
start: start
help: help
repeat: repeat
enter: enter (number: <quantity>)
digits: (digits: <digits>)
date: (month: <month>) (day: <day>) [(year: nineteen <number 0..99>)]
number: (number: <quantity>)
<quantity> = (<number 0..99> | oh=0 | hundred | thousand)+
<month> = january | february | march | april | may | june | july | august | september | october | november | december
<day> = <number 1..31> | first=1 | second=2 | third=3 | fourth=4 | fifth=5 | sixth=6 | seventh=7 | eighth=8 | ninth=9
   | tenth=10 | eleventh=11 | twelfth=12 | eighteenth=18 | twentieth=20
"""
# For early decisions: an unbounded digit string can always continue.
BOUNDED = (
    "yes: yes\nno: no\ngo: go\nstop: stop\nstart: start\nhelp: help\nrepeat: repeat\nenter: enter (n: <number 0..99>)"
)
DIGITS = "digits: (digits: <digits>)"  # for a model with only these words
OUTSIDE = ("librispeech", "nonnative", "noise")
HELD_OUT = {"an4": 200, "speechocean762": 150, "librispeech": 40, "noise": 100}  # maximum number of utterances
WAKE = ("hey computer", "ok jarvis", "alexa")
ANYTHING = Strictness(score=1e-9, word_score=0, settle=10**6)


class Clip(NamedTuple):
    side: str  # dev or test
    corpus: str
    text: str
    rows: np.ndarray


def dev() -> list[tuple[str, str, np.ndarray]]:
    """The held-out part of the training side, with noise of all classes: corpus, text, samples."""
    marked = split(speech_in(SPEECH.parent / "train") + noise_in(SPEECH.parent))
    held = [each for each in marked if each.split != "train"]
    files = defaultdict(list)
    for corpus, most in HELD_OUT.items():
        members = [each for each in held if each.corpus == corpus]
        for each in random.Random(corpus).sample(members, min(most, len(members))):
            files[each.source].append(each)
    clips = []
    for path, members in sorted(files.items()):
        audio = soundfile.read(path, dtype="float32")[0]
        clips += [(each.corpus, each.text, audio[each.start : each.start + each.samples]) for each in members]
    return clips


def encoded(model: str) -> tuple[Vocabulary, list[Clip]]:
    with Recognizer.load(model, device="cpu", threads=1) as recognizer:

        def rows(samples: np.ndarray) -> np.ndarray:
            samples = recognizer.encoder.normalize(samples)
            return recognizer.encoder.encode([samples])[0]

        clips = [Clip("dev", corpus, text, rows(samples)) for corpus, text, samples in dev()]
        for corpus in ("digits", "an4", "kathleen", *OUTSIDE):
            for path, text in listed(corpus):
                clips.append(Clip("test", corpus, text, rows(soundfile.read(path, dtype="float32")[0])))
        long = soundfile.read(SPEECH / "longform" / "26-496.flac", dtype="float32")[0]
        clips += [Clip("test", "longform", "", rows(long[at : at + 240_000])) for at in range(0, len(long), 240_000)]
        return recognizer.encoder.vocabulary, clips


def cost(run, times: int = 3) -> float:
    """CPU seconds of this process for one call: the minimum, because other load only adds time."""
    hits = []
    for _ in range(times):
        started = time.process_time()
        run()
        hits.append(time.process_time() - started)
    return min(hits)


def decide(commands: CompiledGrammar, rows: np.ndarray, strictness: Strictness) -> Decision:
    listener = CommandMatcher(commands, strictness)
    listener.push(rows)
    return listener.finish()


def right(commands: CompiledGrammar, clip: Clip, decision: Decision) -> bool:
    meant = commands.interpret(clip.text.split())
    best = decision.best
    return bool(meant and best and (best.meaning.command, best.meaning.values()) == (meant.command, meant.values()))


def curve(commands: CompiledGrammar, clips: list[Clip], plot: Path | None) -> float:
    """Correct accepts against false accepts. Returns the threshold of the training side."""
    inside: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    outside: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for clip in clips:
        within = bool(clip.text) and commands.interpret(clip.text.split()) is not None
        if not within and clip.corpus in ("an4", "digits", "kathleen", "longform"):
            continue  # an4: spelled words, which are neither inside nor outside
        decision = decide(commands, clip.rows, ANYTHING)
        best = decision.best
        score = decision.score if best and best.word_score >= Strictness().word_score else 0.0
        if within:
            inside[clip.side].append((score, right(commands, clip, decision)))
        else:
            outside[clip.side].append((score, clip.corpus))
    threshold = least([score for score, _ in outside["dev"]])
    for side in ("dev", "test"):
        for name, at in (("threshold of dev", threshold), ("its own", least([s for s, _ in outside[side]]))):
            hits = [hit for score, hit in inside[side] if score >= at]
            false = [corpus for score, corpus in outside[side] if score >= at]
            print(
                f"{side} ({name}, {at:.3f}): of {len(inside[side])} in the grammar {sum(hits)} accepted and right, "
                f"{len(hits) - sum(hits)} accepted and wrong; of {len(outside[side])} outside "
                f"{len(false)} accepted ({100 * len(false) / len(outside[side]):.2f} %) {false}"
            )
    if plot:
        draw(inside, outside, threshold, plot)
    return threshold


def least(scores: list[float]) -> float:
    """The lowest threshold that accepts at most 1 % of these scores."""
    scores = sorted(scores, reverse=True)
    return float(np.nextafter(scores[len(scores) // 100], 2))


def draw(inside, outside, threshold: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for side in inside:
        steps = np.unique([score for score, _ in (*inside[side], *outside[side])])
        false = [100 * np.mean([score >= at for score, _ in outside[side]]) for at in steps]
        hits = [100 * np.mean([score >= at and hit for score, hit in inside[side]]) for at in steps]
        (line,) = axes.plot(false, hits, ".-", label=f"{side}: {len(inside[side])} in, {len(outside[side])} outside")
        at = int(np.searchsorted(steps, threshold))
        axes.plot(false[at : at + 1], hits[at : at + 1], "o", color=line.get_color(), markersize=10)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel("outside the grammar and accepted, % of utterances")
    axes.set_ylabel("in the grammar, accepted and right, % of utterances")
    axes.set_ylim(0, 101)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def early(commands: CompiledGrammar, clips: list[Clip], threshold: float) -> None:
    """Early decisions, row by row: their delay and their agreement with the end. Speech ends with its last token."""
    for settle, letter in ((4, 12.0), (4, 8.0), (4, 4.0), (10, 4.0)):
        soon = made = contradicted = accepted = false = 0
        for clip in clips:
            within = bool(clip.text) and commands.interpret(clip.text.split()) is not None
            if not (within or clip.corpus in OUTSIDE):
                continue
            rest = np.full((60, clip.rows.shape[1]), -20.0, np.float32)
            rest[:, commands.vocabulary.blank] = 0.0
            rows = np.concatenate((clip.rows, rest))  # 1.2 s of silence, in which a late decision can be made
            decision = decide(commands, rows, Strictness(score=threshold, letter_cost=letter, settle=settle))
            end = decide(commands, rows, Strictness(score=threshold, letter_cost=letter, settle=10**6))
            false += decision.accepted and not within
            if within and end.accepted:
                accepted += 1
                last = end.best.words[-1].end
                made += decision.early
                soon += decision.early and decision.frame <= last + 5
            if decision.early and end.accepted:
                contradicted += decision.best.meaning != end.best.meaning
        print(
            f"settle {20 * settle} ms, letter_cost {letter}: of {accepted} accepted {made} early, "
            f"{soon} within 100 ms of the "
            f"last token; {contradicted} contradicted by the end; {false} accepted outside the grammar"
        )


def sessions(recognizer: Recognizer) -> None:
    """Commands of whole sessions: number and delay of early ones, and their agreement with the second pass."""
    spoken = [(name, *each) for name in ("an4", "digits", "kathleen") for each in listed(name)]
    texts = sorted({text for _, _, text in spoken if len(text.split()) <= 6})
    grammar = "\n".join(f"c{at}: {text.lower()}" for at, text in enumerate(texts))
    clips = spoken + [(name, *each) for name in (*OUTSIDE, "longform") for each in listed(name)]
    early: list[float] = []
    reported = contradicted = wrong = false = 0
    for name, path, text in clips:
        audio = np.append(soundfile.read(path, dtype="float32")[0], np.zeros(24_000, np.float32))
        settings = {"grammar": grammar, "trailing_blank_ms": 0}
        live, delayed = (decisions(recognizer, audio, SessionConfig(partials=p, **settings)) for p in (True, False))
        if len(live) != len(delayed):
            print(f"{path.name}: {len(live)} utterances, {len(delayed)} without partials")
        for one, other in zip(live, delayed, strict=False):
            reported += isinstance(one, Command)
            false += isinstance(one, Command) and name not in ("an4", "digits", "kathleen")
            wrong += isinstance(one, Command) and name in ("an4", "digits", "kathleen") and one.text != text
            if isinstance(one, Command) and one.early:
                early.append(one.audio_s - one.end)
                if not isinstance(other, Command) or other.command != one.command:
                    contradicted += 1
                    print(f"{path.name}, {text!r}: early {one.text!r} ({one.score}), at the end {other}")
    print(
        f"sessions, {len(texts)} commands: {reported} reported, {wrong} not as transcribed, {false} outside the "
        f"grammar; {len(early)} early, {contradicted} of them contradicted by the final; audio after the last word: "
        f"{', '.join(f'{np.quantile(early, q):.2f} s ({q:.0%})' for q in (0.1, 0.5, 0.9))}"
    )


def decisions(recognizer: Recognizer, audio: np.ndarray, config: SessionConfig) -> list[Command | Rejected]:
    return [event for event in recognizer.stream(audio, config) if isinstance(event, Command | Rejected)]


def wake(recognizer: Recognizer) -> None:
    """False alarms in sessions: wake phrases detected in audio without them."""
    clips = [path for name in ("longform", *OUTSIDE) for path, _ in listed(name)]
    audio = [soundfile.read(path, dtype="float32")[0] for path in clips]
    hours = sum(map(len, audio)) / 16_000 / 3600
    for phrase in WAKE:
        for score in (0.3, 0.5, 0.7):
            config = SessionConfig(grammar="stop: stop", wake=phrase, wake_score=score, partials=False)
            part_rows = [event for each in audio for event in decisions(recognizer, each, config)]
            alarms = sum(isinstance(event, Command) or event.reason == "woken" for event in part_rows)
            print(f"wake {phrase!r} at {score}: {alarms} false alarms in {hours:.2f} h, {alarms / hours:.1f} per hour")


def hotwords(vocabulary: Vocabulary, clips: list[Clip]) -> None:
    """Two long words of each utterance and eight of other utterances as hotwords: their effect on the errors."""
    read = [clip for clip in clips if clip.side == "test" and clip.corpus == "librispeech"]
    rare = [sorted(set(clip.text.split()), key=len)[-2:] for clip in read]
    for boost in (0.0, 0.5, 1.0, 2.0, 3.0):
        texts, hits = [], 0
        for index, clip in enumerate(read):
            others = [word for words in rare[index + 1 : index + 5] for word in words]
            words = dict.fromkeys((*rare[index], *others), boost) if boost else {}
            decoder = HotwordDecoder(vocabulary, Phrases(words, vocabulary) if words else None)
            decoder.push(clip.rows)
            decoder.finish()
            texts.append(" ".join(word.text for word in decoder.words))
            hits += len({*texts[-1].split()} & {*rare[index]})
        wer = 100 * jiwer.wer([clip.text for clip in read], texts)
        print(f"hotwords, boost {boost}: {hits} of {2 * len(read)} boosted words found, WER {wer:.2f} %")


def speed(vocabulary: Vocabulary, clips: list[Clip]) -> None:
    """CPU time of one live stream that matches all rows twice in steps and once in the second pass."""
    words = sorted({word for clip in clips for word in clip.text.split() if len(word) > 2})
    draw = random.Random(1)
    phrases = [" ".join(draw.sample(words, 3)) for _ in range(500)]
    lines = "\n".join(f"c{index}: {phrase.lower()}" for index, phrase in enumerate(phrases))
    started = time.process_time()
    commands = CompiledGrammar(lines, vocabulary)
    compiled = time.process_time() - started
    rows = np.concatenate([clip.rows for clip in clips if clip.corpus == "librispeech"])[:3_000]
    worst = np.tile(decode_rows(vocabulary, phrases[0]), (3, 1))
    for name, part_rows in (("read speech", rows), ("a phrase of the grammar", worst)):
        each = cost(
            lambda part_rows=part_rows: [decide(commands, part, ANYTHING) for part in np.array_split(part_rows, 10)]
        )
        each /= len(part_rows)
        print(f"500 phrases, {name}: {1e6 * each:.0f} us per frame, {100 * 50 * 3 * each:.2f} % of a core at 3 passes")
    print(f"500 phrases: {commands.automaton.size} cells, compiled in {compiled:.2f} s")


def decode_rows(vocabulary: Vocabulary, text: str) -> np.ndarray:
    """Noisy log-probabilities that spell `text`, which keep many hypotheses alive."""
    tokens = [t for char in text for t in (vocabulary.texts.index(char), vocabulary.blank)]
    logits = np.random.default_rng(0).normal(0, 1, (len(tokens), len(vocabulary)))
    logits[np.arange(len(tokens)), tokens] += 5
    rows = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    assert decode(rows, vocabulary)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--cache", type=Path, help="keep the encoder's answers in this file")
    options = parser.parse_args()
    if options.cache and options.cache.exists():
        vocabulary, clips = pickle.loads(options.cache.read_bytes())
    else:
        vocabulary, clips = encoded(options.model)
        if options.cache:
            options.cache.write_bytes(pickle.dumps((vocabulary, clips)))
    letters = set("".join(vocabulary.texts).upper())
    commands = CompiledGrammar(GRAMMAR if letters.issuperset("ABCDEFGHIJLMNOPRSTUVWXY") else DIGITS, vocabulary)
    threshold = curve(commands, clips, options.plot)
    if letters.issuperset("ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        early(CompiledGrammar(BOUNDED, vocabulary), clips, threshold)
        hotwords(vocabulary, clips)
        speed(vocabulary, clips)
        with Recognizer.load(options.model, device="cpu", threads=1) as recognizer:
            sessions(recognizer)
            wake(recognizer)


if __name__ == "__main__":
    main()
