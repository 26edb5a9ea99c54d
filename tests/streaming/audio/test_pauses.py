from __future__ import annotations

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.audio.gate import Closed, Gate, GateState, Opened
from xlsr_live.streaming.audio.pauses import PauseEvidence, Pauses
from xlsr_live.streaming.audio.vad import FRAME
from xlsr_live.streaming.frames import ms

LEAST, MOST, MARGIN = 8 * FRAME, 30 * FRAME, 8 * FRAME

lengths = st.lists(st.integers(1, 100).map(lambda frames: frames * FRAME), max_size=60)
evidences = st.builds(PauseEvidence, st.floats(-3, 3) | st.sampled_from([-inf, inf]), st.integers(0, 40_000))


def after(pauses: list[int]) -> Pauses:
    made = Pauses(least=LEAST, most=MOST, margin=MARGIN)
    for length in pauses:
        made.receive(length)
    return made


@given(lengths, evidences)
@settings(deadline=None)
def test_hangovers_stay_within_their_bounds(pauses, evidence):
    found = after(pauses).hangover(evidence)
    assert LEAST <= found <= MOST
    assert found == MOST or (found - LEAST) % FRAME == 0


@given(lengths, evidences, st.floats(0, 3), st.integers(0, 20_000))
@settings(deadline=None)
def test_more_evidence_of_an_end_never_makes_the_hangover_longer(pauses, evidence, odds, blank):
    more = PauseEvidence(evidence.log_odds + odds, evidence.blank + blank)
    assert after(pauses).hangover(more) <= after(pauses).hangover(evidence)


@given(lengths)
@settings(deadline=None)
def test_certain_evidence_decides_alone(pauses):
    assert after(pauses).hangover(PauseEvidence(inf)) == LEAST
    assert after(pauses).hangover(PauseEvidence(-inf)) == MOST


def test_a_speaker_without_pauses_in_sentences_gets_shorter_hangovers_and_a_hesitant_one_longer_ones():
    nothing = PauseEvidence()
    fluent = [after([2 * MOST] * count).hangover(nothing) for count in (0, 3, 30)]
    assert fluent == sorted(fluent, reverse=True)
    assert fluent[0] > fluent[-1] == LEAST
    hesitant = after([15 * FRAME, 2 * MOST] * 20).hangover(nothing)
    assert 15 * FRAME <= hesitant < MOST  # longer than the pauses that this speaker makes


def test_pauses_too_short_to_ask_about_do_not_count_and_old_ones_fade():
    assert after([LEAST - 1] * 50 + [2 * MOST] * 30).hangover(PauseEvidence()) == LEAST
    assert after([20 * FRAME] * 50 + [2 * MOST] * 100).hangover(PauseEvidence()) == LEAST
    assert len(after([20 * FRAME] * 1_000)._resumed) <= 60  # 0.95 ** 59 is negligible


def test_blanks_beyond_the_usual_lag_of_a_detector_count_as_silence():
    plain = after([]).hangover(PauseEvidence(0.0, MARGIN + ms(160)))
    assert after([]).hangover(PauseEvidence(0.0, MARGIN + ms(160) + 3 * FRAME)) == plain - 3 * FRAME


# ── the gate ──


def gate() -> Gate:
    pauses = Pauses(least=2 * FRAME, most=6 * FRAME, margin=0)
    return Gate(pre_roll=0, post_roll=0, min_speech=FRAME, hangover=4 * FRAME, pauses=pauses)


def feed(gate: Gate, frames: str, evidence: dict[int, float]) -> list[tuple[int, str]]:
    """What the gate does, by frame; `evidence` holds log-odds for the frames after which it asks."""
    found: list[tuple[int, str]] = []
    for index, char in enumerate(frames):
        event = gate.receive(float(char == "#"), index * FRAME, (index + 1) * FRAME)
        if gate.state is GateState.ASKING:
            assert gate.likely_end == (frames.rindex("#", 0, index) + 1) * FRAME
            found.append((index, "asks"))
            event = gate.decide(PauseEvidence(evidence[index]))
        if isinstance(event, Opened | Closed):
            found.append((index, type(event).__name__))
    return found


def test_the_gate_asks_once_in_each_pause_and_follows_the_answer():
    frames = "##---#--#------##--#"
    evidence = {3: -inf, 7: inf, 10: -inf, 18: -inf}
    assert feed(gate(), frames, evidence) == [
        (0, "Opened"),
        (3, "asks"),
        (7, "asks"),
        (7, "Closed"),
        (8, "Opened"),
        (10, "asks"),
        (14, "Closed"),
        (15, "Opened"),
        (18, "asks"),
    ]


def test_a_pause_longer_than_the_greatest_hangover_ends_the_span_whatever_the_evidence():
    assert feed(gate(), "#" + "-" * 9, {2: -inf}) == [(0, "Opened"), (2, "asks"), (6, "Closed")]
