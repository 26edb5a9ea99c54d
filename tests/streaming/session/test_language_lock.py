"""The lock: nothing flips inside an utterance, weak evidence displaces nothing, and no certainty lasts for ever."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from xlsr_live.streaming.session.language_lock import LanguageLock

ALLOWED = ("deu", "eng", "xho")


def lock() -> LanguageLock:
    return LanguageLock(enter=0.8, leave=0.9, least_s=1.0, hold_s=0.5)


def shares(best: str, probability: float) -> dict[str, float]:
    rest = (1 - probability) / (len(ALLOWED) - 1)
    return {language: probability if language == best else rest for language in ALLOWED}


def say(lock: LanguageLock, best: str, probability: float, *, seconds: float = 3.0):
    lock.begin()
    for tenth in range(int(seconds * 10) + 1):
        if found := lock.receive(tenth / 10, shares(best, probability)):
            return found
    return lock.settle(seconds, shares(best, probability))


class Utterances(RuleBasedStateMachine):
    """Any probabilities, in any steps of time."""

    @initialize()
    def start(self) -> None:
        self.lock, self.seconds = lock(), 0.0
        self.decided: str | None = None
        self.seen: list[tuple[float, dict[str, float]]] = []
        self.before: str | None = None

    @rule(step=st.floats(0.01, 1.0), weights=st.tuples(*[st.floats(0.001, 1.0)] * 3))
    def hear(self, step: float, weights: tuple[float, ...]) -> None:
        self.seconds += step
        row = {language: weight / sum(weights) for language, weight in zip(ALLOWED, weights, strict=True)}
        self.seen.append((self.seconds, row))
        self._check(self.lock.receive(self.seconds, row))

    @rule()
    def settle(self) -> None:
        if self.seen:
            self._check(self.lock.settle(*self.seen[-1]))

    @rule()
    def next_utterance(self) -> None:
        self.before = self.lock.language
        self.lock.begin()
        self.seconds, self.decided, self.seen = 0.0, None, []

    def _check(self, found: object) -> None:
        if self.decided is not None:
            assert found is not None
            assert found.language == self.decided, "flipped inside an utterance"
        elif found is not None:
            self.decided = found.language
            if self.before is not None and found.language != self.before:
                at, row = self.seen[-1]
                assert row[found.language] >= 0.9
                assert at >= 1.0 or self.lock.language == self.before

    @invariant()
    def only_allowed(self) -> None:
        assert self.lock.language in (None, *ALLOWED)
        assert self.decided in (None, *ALLOWED)


Utterances.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
test_utterances = Utterances.TestCase


def test_certain_after_a_second_of_speech_and_half_a_second_of_certainty():
    one = lock()
    for tenth in range(15):
        assert one.receive(tenth / 10, shares("deu", 0.85)) is None
    assert one.receive(1.5, shares("deu", 0.85)).language == "deu"


def test_a_moment_of_doubt_starts_the_half_second_again():
    one = lock()
    for tenth, probability in enumerate([0.9] * 14 + [0.7] + [0.9] * 5):
        assert one.receive(tenth / 10, shares("deu", probability)) is None
    assert one.receive(2.0, shares("deu", 0.9)).language == "deu"


def test_weak_evidence_does_not_make_a_german_file_english():
    one = lock()
    assert say(one, "deu", 0.95).language == "deu"
    for probability in (0.34, 0.43, 0.85):
        assert say(one, "eng", probability).language == "deu"
    assert say(one, "eng", 0.92).language == "eng"


def test_a_first_decision_does_not_stick():
    one = lock()
    assert say(one, "eng", 0.99).language == "eng"
    assert say(one, "deu", 0.95).language == "deu"
    assert say(one, "deu", 0.81).language == "deu"


def test_a_guess_binds_nothing():
    one = lock()
    assert say(one, "eng", 0.5).language == "eng"
    assert one.language is None
    assert say(one, "deu", 0.82).language == "deu"


def test_a_language_that_is_no_longer_allowed_is_forgotten():
    one = lock()
    say(one, "eng", 0.99)
    one.restrict(("deu", "xho"))
    assert one.language is None
