"""The plan of a round: a function of the seed, the round's number and the sizes of steps and parts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..batch import packed
from ..settings import Augmentation
from .prepare import PHRASE, Utterance
from .settings import RATE, SHARES, Schedule

KINDS = ("recorded", "natural synthetic", "other synthetic", "noise")
FEWEST_PHRASES = 8  # of a speaker, for making sentences of them


@dataclass(frozen=True)
class Item:
    """One example: utterances with gaps around them, before augmentation."""

    parts: tuple[Utterance, ...]
    gaps: tuple[int, ...]  # samples of silence before, between and after the parts
    speed: float
    seed: tuple[int, ...]

    @property
    def samples(self) -> int:
        return int((sum(u.samples for u in self.parts) + sum(self.gaps)) / self.speed)

    @property
    def text(self) -> str:
        return " ".join(u.text for u in self.parts if u.text)


Step = tuple[list[Item], ...]  # the parts of a step; threads share them out


def kind(corpus: str) -> str:
    """The kind of audio in a corpus, one of `KINDS`."""
    if corpus.startswith("tts-"):
        return "other synthetic"
    return {"kokoro": "natural synthetic", "noise": "noise"}.get(corpus, "recorded")


def longest_utterance(number: int, schedule: Schedule) -> float:
    """Seconds of recordings allowed in an example of round `number`: from short clips to everything."""
    step = min(1.0, number / max(1, schedule.easy_rounds))
    return schedule.easy_seconds + step * (schedule.longest - schedule.easy_seconds)


def plan_round(
    number: int, utterances: list[Utterance], batch_seconds: float, shards: int, schedule: Schedule, how: Augmentation
) -> list[Step]:
    """Steps of round `number`: at most `batch_seconds` of padded audio each, in `shards` parts of about one size."""
    draw = np.random.default_rng((schedule.seed, number))
    limit = longest_utterance(number, schedule) * RATE
    corpora, phrases = defaultdict(list), defaultdict(list)
    for u in utterances:
        if u.split == PHRASE:
            phrases[u.corpus, u.speaker].append(u)
        elif u.split == "train" and u.samples <= limit:
            corpora["tts" if u.corpus.startswith("tts-") else u.corpus].append(u)
    whole = sum(SHARES[c] for c in corpora)
    drawn: list[tuple[Utterance, ...]] = []
    for corpus, members in sorted(corpora.items()):
        seconds = schedule.round_hours * 3600 * SHARES[corpus] / whole
        if corpus == "fsdd":
            drawn += digit_strings(members, seconds, draw, limit)
        else:
            mean = np.mean([u.samples for u in members]) / RATE
            for u in stretch_of(members, number, round(seconds / mean), schedule.seed):
                pool = phrases[u.corpus, u.speaker]
                splice = len(pool) >= FEWEST_PHRASES and draw.random() < schedule.spliced
                drawn.append(spliced(pool, u.samples, draw) if splice else (u,))
    drawn = joined([drawn[i] for i in draw.permutation(len(drawn))], limit, schedule.joined, draw)
    items = [dressed(parts, (schedule.seed, number, i), how, draw) for i, parts in enumerate(drawn)]
    batches = packed(items, batch_seconds / shards)
    steps = [tuple(batches[at : at + shards]) for at in range(0, len(batches), shards)]
    return [steps[i] for i in draw.permutation(len(steps))]


def stretch_of(members: list[Utterance], number: int, count: int, seed: int) -> list[Utterance]:
    """The `number`-th run of `count` utterances in an endless series of shuffles: no utterance repeats before all were
    used, as long as `count` and the members stay the same from round to round."""
    chosen: list[Utterance] = []
    position = number * count
    while len(chosen) < count:
        cycle, first = divmod(position + len(chosen), len(members))
        order = np.random.default_rng((seed, cycle, len(members))).permutation(len(members))
        chosen += [members[i] for i in order[first : first + count - len(chosen)]]
    return chosen


def digit_strings(
    members: list[Utterance], seconds: float, draw: np.random.Generator, limit: float = float("inf")
) -> list[tuple[Utterance, ...]]:
    """Connected digits: two to nine recordings of one speaker, or as many as `limit` samples hold with their gaps;
    about `seconds` in all."""
    speakers = defaultdict(list)
    for u in members:
        speakers[u.speaker].append(u)
    names, strings, total = sorted(speakers), [], 0.0
    while total < seconds:
        pool = speakers[names[draw.integers(len(names))]]
        parts = [pool[draw.integers(len(pool))] for _ in range(draw.integers(2, 10))]
        while len(parts) > 1 and _with_gaps(parts) > limit:
            parts.pop()
        strings.append(tuple(parts))
        total += _with_gaps(parts) / RATE
    return strings


def _with_gaps(digits: list[Utterance]) -> float:
    """Samples, gaps of 0.35 s on the average included."""
    return sum(u.samples for u in digits) + 0.35 * RATE * len(digits)


def spliced(pool: list[Utterance], samples: int, draw: np.random.Generator) -> tuple[Utterance, ...]:
    """Phrases in any order, about that many samples in all."""
    parts: list[Utterance] = []
    while sum(u.samples for u in parts) < 0.8 * samples:
        parts.append(pool[draw.integers(len(pool))])
    return tuple(parts)


def joined(
    drawn: list[tuple[Utterance, ...]], limit: float, share: float, draw: np.random.Generator
) -> list[tuple[Utterance, ...]]:
    """Make `share` of the examples out of two or three neighbours in the list, up to `limit` samples."""
    result, at = [], 0
    while at < len(drawn):
        take = draw.integers(2, 4) if draw.random() < share else 1
        parts = sum(drawn[at : at + take], ())
        if sum(u.samples for u in parts) + RATE * len(parts) > limit:
            take, parts = 1, drawn[at]
        result.append(parts)
        at += take
    return result


def dressed(parts: tuple[Utterance, ...], seed: tuple[int, ...], how: Augmentation, draw: np.random.Generator) -> Item:
    """Draw gaps and speed. Gaps inside are 0.1-0.6 s between digits, up to 60 ms between phrases and up to 1 s
    elsewhere; edges up to 0.4 s."""
    inside = [draw.uniform(*_gap(a, b)) for a, b in pairwise(parts)]
    gaps = [draw.uniform(0, 0.4), *inside, draw.uniform(0, 0.4)]
    speed = draw.uniform(*how.speed) if draw.random() < 2 / 3 else 1.0
    return Item(parts, tuple(int(g * RATE) for g in gaps), float(speed), seed)


def _gap(a: Utterance, b: Utterance) -> tuple[float, float]:
    if a.split == b.split == PHRASE and a.speaker == b.speaker:
        return 0.0, 0.06
    return 0.1, 0.6 if a.corpus == b.corpus == "fsdd" else 1.0
