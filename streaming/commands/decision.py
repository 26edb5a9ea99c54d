"""The decision on one utterance: which command it is, and whether it counts."""

from __future__ import annotations

from dataclasses import dataclass

from ..ctc.greedy import DecodedWord
from ..errors import ConfigError
from .meaning import Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """When a command is accepted. Raises `ConfigError` for values out of range."""

    score: float = 0.5  # least score of the command, 0..1
    word_score: float = 0.05  # least score of each of its words, 0..1
    letter_cost: float = 12.0  # nats, highest cost of a letter, including the frames since the previous letter
    settle: int = 10  # frames without a token before an early decision

    def __post_init__(self) -> None:
        if not (0 < self.score <= 1 and 0 <= self.word_score <= 1 and self.settle >= 0):
            raise ConfigError("score and word_score are between 0 and 1, settle is not negative")

    def accepts(self, candidate: Candidate) -> bool:
        return (
            candidate.score >= self.score
            and candidate.word_score >= self.word_score
            and candidate.letter_cost <= self.letter_cost
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A command that the utterance may be. Words have frames, and confidences as in transcripts."""

    meaning: Meaning
    words: tuple[DecodedWord, ...]
    text: str
    score: float  # 0..1
    word_score: float  # 0..1, of the worst word
    letter_cost: float  # nats, of the most expensive letter


@dataclass(frozen=True, slots=True)
class Decision:
    """`best` is the nearest command, None if none is near; `accepted` says whether it counts."""

    accepted: bool
    best: Candidate | None
    frame: int  # end of the decided part of the utterance
    early: bool = False
    others: tuple[Candidate, ...] = ()  # with other meanings, best first
    woken: int | None = None  # end frame of the wake phrase, if the utterance contains it
    asleep: bool = False  # the wake phrase is still missing

    @property
    def score(self) -> float:
        return self.best.score if self.best else 0.0
