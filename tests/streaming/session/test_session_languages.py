"""A session in several languages, one after the other: chosen by the client, or identified in each utterance."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.ctc.languages import LanguageSet
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.events import Error, Event, to_json
from xlsr_live.streaming.requests import MULTIPLE, CachedStep, Request

from tests.support.driving import FLUSH, Driver, lines, pieces, run, timeless, utterances
from tests.support.fakes import FakeLanguages, PolyglotEncoder, sound

LANGUAGES = FakeLanguages()
DEU, ENG = LANGUAGES.only("deu"), LANGUAGES.only("eng")
BOTH, ALL = LANGUAGES.only("deu", "eng"), LANGUAGES.only("deu", "eng", "xho")
ALL_BY_HEAD = LANGUAGES.by_head("deu", "eng", "xho")
PAUSE = sound("." * 10)
GERMAN, ENGLISH = sound("ABC DEF ABC DE "), -sound("CAB FED CAB FE ")
SHORT = -sound("AB")
CONVERSATION = np.concatenate(
    (PAUSE, GERMAN, PAUSE, ENGLISH, PAUSE, SHORT, PAUSE, GERMAN, GERMAN, PAUSE, ENGLISH, ENGLISH, GERMAN, PAUSE)
)


def say(*packets: object, config: SessionConfig | None = None, **options: object) -> list[Event]:
    return run(packets, config, encoder=PolyglotEncoder(), **options)


def texts(events: list[Event]) -> list[tuple[str, str]]:
    return [(one.final.language, one.final.text) for one in utterances(events) if one.final]


@pytest.mark.parametrize("mode", ["cached", "window", "offline"])
def test_a_session_in_one_language_says_so_in_every_text(mode: str):
    events = say(ENGLISH, languages=ENG, config=SessionConfig(mode=mode))
    assert texts(events) == [("eng", "cab fed cab fe")]
    assert {partial.language for one in utterances(events) for partial in one.partials} <= {"eng"}
    assert not [one.language for one in utterances(events) if one.language]


def test_a_model_with_one_language_says_nothing_of_it():
    assert "language" not in lines(run([sound("ABC DEF ABC ")]))


@pytest.mark.parametrize("mode", ["cached", "window"])
def test_a_session_that_switches_has_the_text_of_two_sessions(mode: str):
    config = SessionConfig(mode=mode)
    both = say(GERMAN, PAUSE, ENG, ENGLISH, PAUSE, languages=DEU, config=config)
    first = say(GERMAN, PAUSE, languages=DEU, config=config)
    second = say(0 * GERMAN, PAUSE, ENGLISH, PAUSE, languages=ENG, config=config)
    assert texts(both) == texts(first) + texts(second)
    got, alone = utterances(both)[1], utterances(second)[0]
    assert [(p.committed, p.volatile) for p in got.partials] == [(p.committed, p.volatile) for p in alone.partials]


def test_an_open_utterance_keeps_its_language():
    spoken = np.concatenate((GERMAN, PAUSE, ENGLISH, PAUSE))
    for at in range(9_600, len(GERMAN), 1_600):
        assert texts(say(spoken[:at], ENG, spoken[at:], languages=DEU)) == [
            ("deu", "ABC DEF ABC DE"),
            ("eng", "cab fed cab fe"),
        ]


def test_a_language_chosen_just_before_speech_counts():
    """Although the pre-roll, which belongs to the utterance, comes before the message."""
    spoken = np.concatenate((PAUSE, ENGLISH, PAUSE))
    (found,) = texts(say(spoken[: len(PAUSE)], ENG, spoken[len(PAUSE) :], languages=DEU))
    assert found == ("eng", "cab fed cab fe")


def test_without_a_gate_the_language_counts_after_a_flush():
    config = SessionConfig(vad="none")
    events = say(GERMAN, FLUSH, ENG, ENGLISH, FLUSH, languages=DEU, config=config, vad=None)
    assert [language for language, _ in texts(events)] == ["deu", "eng"]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, len(CONVERSATION)), st.lists(st.integers(1, 20_000), max_size=30), st.randoms(use_true_random=False)
)
def test_what_a_choice_means_depends_on_its_place_alone(at: int, sizes: list[int], random: Random):
    """Not on packets, and not on the order of answers."""
    plain = say(CONVERSATION[:at], ENG, CONVERSATION[at:], languages=DEU)
    cut = say(*pieces(CONVERSATION[:at], sizes), ENG, *pieces(CONVERSATION[at:], sizes), languages=DEU, random=random)
    assert timeless(cut) == timeless(plain)


@pytest.mark.parametrize("languages", [ALL, ALL_BY_HEAD], ids=["by confidence", "by head"])
def test_every_utterance_gets_its_own_language(languages: LanguageSet):
    events = say(CONVERSATION, languages=languages)
    found = [(one.language.language, one.language.probability, one.final.language) for one in utterances(events)]
    assert [language for language, _, _ in found] == ["deu", "eng", "eng", "deu", "eng"]
    assert all(probability > 0.7 for _, probability, _ in found)
    assert [spoken for spoken, _, spoken in found] == [language for language, _, _ in found]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 20_000), max_size=30),
    st.randoms(use_true_random=False),
    st.sampled_from(["cached", "window", "offline"]),
    st.sampled_from([ALL, ALL_BY_HEAD]),
)
def test_identification_depends_on_the_audio_alone(sizes: list[int], random: Random, mode: str, languages: LanguageSet):
    config = SessionConfig(mode=mode)
    plain = say(CONVERSATION, languages=languages, config=config)
    cut = say(*pieces(CONVERSATION, sizes), languages=languages, config=config, random=random)
    assert timeless(cut) == timeless(plain)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([-1, 1]), st.text("ABC ~", min_size=1, max_size=30)), min_size=1, max_size=6),
    st.sampled_from([("deu", "xho"), ("xho", "eng"), ("deu", "eng", "xho")]),
    st.sampled_from([LANGUAGES.only, LANGUAGES.by_head]),
)
def test_a_language_is_one_of_the_allowed_and_stays_for_its_utterance(
    parts: list[tuple[int, str]], allowed: tuple[str, ...], among: Callable[..., LanguageSet]
):
    audio = np.concatenate([np.concatenate((sign * sound(text), PAUSE)) for sign, text in parts])
    for one in utterances(say(audio, languages=among(*allowed))):
        assert one.language.language in (*allowed, "und")
        spoken = {each.language for each in (*one.partials, *([one.final] if one.final else []))}
        assert len(spoken) <= 1
        assert spoken <= set(allowed)
        if one.language.language != "und":
            assert spoken <= {one.language.language}


def test_partials_wait_a_bounded_time():
    """With languages that cannot be told apart, all the same there is text after `language_wait_ms`."""
    long = sound("ABC DEF ABC DE " * 4)
    config = SessionConfig(language_wait_ms=2_000)
    events = say(np.abs(long), languages=LANGUAGES.only("eng", "xho"), config=config)
    (one,) = utterances(events)
    assert one.language.language == "und"
    assert one.partials[0].audio_s - one.start / 16_000 < 0.3 + 2.0 + 1.0
    assert one.final.text


def test_short_speech_keeps_the_language_of_before():
    """It says too little to displace it."""
    doubtful = np.concatenate((ENGLISH, PAUSE, sound("A~~~"), PAUSE))
    first, second = utterances(say(doubtful, languages=BOTH))
    assert first.language.language == "eng"
    assert second.final is None or second.final.language == "eng"


@pytest.mark.parametrize(
    ("languages", "questions"),
    [(BOTH, ["deu", "eng"]), (LANGUAGES.by_head("deu", "eng"), [MULTIPLE])],
    ids=["by confidence", "by head"],
)
def test_the_encoder_is_asked_each_question_once_and_sooner_if_the_answer_is_sure(
    languages: LanguageSet, questions: list[str]
):
    """Nothing is encoded in another language after the decision."""
    session_requests: list[Request] = []

    class Listening(Driver):
        def collect(self) -> None:
            before = len(self.waiting)
            super().collect()
            session_requests.extend(self.waiting[before:])

    events = run_with(Listening, np.concatenate((GERMAN, GERMAN, PAUSE)), languages)
    asked = [request for request in session_requests if request.kind == "identify"]
    assert [request.language for request in asked] == questions
    assert {len(request.samples) for request in asked} == {(300 + 1_000 + 500 + 100) * 16 + 400}
    others = [request for request in session_requests if request.kind != "identify"]
    assert {request.language for request in others} == {"deu"}
    assert {request.reuse.cache.language for request in others if isinstance(request.reuse, CachedStep)} == {"deu"}
    assert len(texts(events)) == 1


def run_with(driver: type[Driver], audio: np.ndarray, languages: LanguageSet) -> list[Event]:
    from xlsr_live.streaming.session.session import Session

    from tests.support.driving import MODES
    from tests.support.fakes import LoudVad

    encoder = PolyglotEncoder()
    session = Session(
        encoder.vocabulary,
        SessionConfig(mode="cached"),
        vad=LoudVad(),
        normalized=False,
        modes=MODES,
        languages=languages,
    )
    return driver(session, encoder).run([audio])


def test_when_the_encoder_fails_one_language_the_others_decide():
    events = say(
        GERMAN, PAUSE, languages=BOTH, fails=lambda request: request.kind == "identify" and request.language == "eng"
    )
    assert texts(events) == [("deu", "ABC DEF ABC DE")]
    assert [event.code for event in events if isinstance(event, Error)] == ["encoder_failed"]


@pytest.mark.parametrize("languages", [BOTH, ALL_BY_HEAD], ids=["by confidence", "by head"])
def test_when_identification_fails_the_text_still_comes(languages: LanguageSet):
    events = say(GERMAN, PAUSE, languages=languages, fails=lambda request: request.kind == "identify")
    assert texts(events) == [("deu", "ABC DEF ABC DE")]
    assert [one.language.language for one in utterances(events)] == ["und"]


def test_identification_can_begin_and_end_in_mid_stream():
    events = say(GERMAN, PAUSE, BOTH, ENGLISH, PAUSE, GERMAN, PAUSE, ENG, ENGLISH, PAUSE, languages=DEU)
    assert [language for language, _ in texts(events)] == ["deu", "eng", "deu", "eng"]
    assert [one.language and one.language.language for one in utterances(events)] == [None, "eng", "deu", None]


def test_hotwords_count_in_the_languages_that_can_write_them():
    config = SessionConfig(hotwords=("abc", "xyx:3"))  # only English has X and Y
    assert len(texts(say(GERMAN, PAUSE, ENGLISH, PAUSE, languages=BOTH, config=config))) == 2
    with pytest.raises(ConfigError, match="cannot write 'QQ'"):
        say(GERMAN, languages=BOTH, config=SessionConfig(hotwords=("QQ",)))


def test_settings_that_change_in_silence_do_not_accumulate():
    from xlsr_live.streaming.session.decoding import Decoding
    from xlsr_live.streaming.session.session import Session

    from tests.support.fakes import LoudVad

    session = Session(DEU["deu"][0], SessionConfig(), vad=LoudVad(), normalized=False, languages=DEU)
    kept: list[weakref.ref[Decoding]] = []
    for turn in range(60):
        session.receive_audio(PAUSE, now=0.0)
        session.receive_languages((DEU, ENG)[turn % 2])
        session.receive_hotwords((("ab",), ())[turn % 2])
        kept.append(weakref.ref(session._decodings.newest.only))
    gc.collect()
    assert sum(each() is not None for each in kept) <= 10


def test_hotwords_that_one_language_refuses_change_no_other():
    """Only German writes AB here, and only Xhosa ΑΒ (Greek letters), whose boost is wrong."""
    from xlsr_live.streaming.session.decodings import Decodings

    decodings = Decodings(LANGUAGES.only("deu", "xho"), SessionConfig(hotwords=("CD",)))
    with pytest.raises(ConfigError, match="boost of 'ΑΒ' is 0"):
        decodings.set_hotwords(("AB", "ΑΒ:0"), 0)
    hotwords = decodings.newest.decodings["deu"].hotwords(1)
    assert hotwords is not None
    assert hotwords.phrases.phrases == ["CD"]


def test_a_choice_that_does_not_fit_the_hotwords_is_refused_and_the_earlier_stays():
    from xlsr_live.streaming.session.session import Session

    session = Session(DEU["deu"][0], SessionConfig(hotwords=("abc",)), vad=None, normalized=False, languages=DEU)
    with pytest.raises(ConfigError, match="cannot write 'abc'"):
        session.receive_languages(LANGUAGES.only("xho"))
    assert list(session.languages) == ["deu"]
    session.receive_hotwords(())
    session.receive_languages(LANGUAGES.only("xho"))
    assert list(session.languages) == ["xho"]


def test_commands_need_one_language():
    with pytest.raises(ConfigError, match="one language"):
        say(GERMAN, "go: abc", languages=BOTH)
    with pytest.raises(ConfigError, match="one language"):
        say(GERMAN, languages=BOTH, config=SessionConfig(grammar="go: abc"))
    events = say(sound("ABC "), PAUSE, languages=DEU, config=SessionConfig(grammar="go: abc"))
    assert '"command":"go"' in "".join(map(to_json, events))
