"""Speech in six languages with one trained checkpoint: alone, mixed, and identified.

The clips and what the adapters were trained on are described beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from numpy.typing import NDArray
from xlsr_live.client.commands.calibrate import calibrate
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.ctc.calibration import load_calibration
from xlsr_live.streaming.protocol.events import Event, Final, LanguageIdentified, Partial
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.multilingual import ADAPTERS, HEAD, LANGUAGES, SPOKEN, make_multilingual

PAUSE = np.zeros(16_000, np.float32)
LIMIT = 120  # seconds; a test that takes longer has failed

Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_multilingual(tmp_path_factory.mktemp("multilingual"))


@pytest.fixture(scope="module")
def six(checkpoint: Path) -> Iterator[Recognizer]:
    with Recognizer.load(str(checkpoint), device="cpu", adaptive=False) as recognizer:
        yield recognizer


def speech(language: str) -> Float32:
    return soundfile.read(SPOKEN / f"{language}.flac", dtype="float32")[0]


def auto(*allowed: str) -> SessionConfig:
    return SessionConfig(language="auto", allowed_languages=allowed)


async def run(recognizer: Recognizer, samples: Float32, config: SessionConfig, packet: int) -> list[Event]:
    session = recognizer.session(config)

    async def listen() -> list[Event]:
        return [event async for event in session]

    async with session:
        listening = asyncio.create_task(listen())
        for at in range(0, len(samples), packet):
            await session.send(samples[at : at + packet])
        await session.end()
        return await listening


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_the_english_of_the_checkpoint_is_the_model_without_adapters(six: Recognizer):
    clip = next(clip for clip in load_clips() if len(clip.text.split()) > 6)
    calibration = ADAPTERS / "languages" / "eng"
    with Recognizer.load(str(ADAPTERS / "base"), device="cpu", calibration=calibration, lm="none") as alone:
        (ours, theirs) = (
            [(final.text, final.words) for final in each.transcribe(clip.path, config)]
            for each, config in ((six, SessionConfig(language="eng")), (alone, SessionConfig()))
        )
    assert ours == theirs != []


def test_sessions_in_six_languages_at_once_have_the_events_of_each_alone(six: Recognizer):
    async def scene(languages: tuple[str, ...]) -> list[list[Event]]:
        sessions = [run(six, speech(one), SessionConfig(language=one), 1_000 + 700 * place) for place, one in
                    enumerate(languages)]  # fmt: skip
        return await asyncio.wait_for(asyncio.gather(*sessions), LIMIT)

    mixed = asyncio.run(scene(LANGUAGES))
    for language, events in zip(LANGUAGES, mixed, strict=True):
        (alone,) = asyncio.run(scene((language,)))
        assert finals(events) == finals(alone) != []
        assert {final.language for final in finals(events)} == {language}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_language_of_a_clip_is_found(six: Recognizer, language: str):
    """Beside English, whose clip is found beside German."""
    other = "deu" if language == "eng" else "eng"
    for allowed in ((language, other), (other, language)):
        events = list(six.stream(speech(language), auto(*allowed)))
        told = [event.language for event in events if isinstance(event, LanguageIdentified)]
        assert set(told) == {language}
        assert {final.language for final in finals(events)} == {language}


def test_a_head_over_the_shared_encoder_finds_the_language_too(checkpoint: Path):
    """English and German among six; three others beside English. Italian is its weakest language."""
    with Recognizer.load(str(checkpoint), device="cpu", adaptive=False, lid=str(HEAD)) as recognizer:
        for language, allowed in (
            *((each, LANGUAGES) for each in ("deu", "eng")),
            *((each, ("eng", each)) for each in ("fra", "por", "spa")),
        ):
            events = list(recognizer.stream(speech(language), auto(*allowed)))
            assert {event.language for event in events if isinstance(event, LanguageIdentified)} == {language}
            assert {final.language for final in finals(events)} == {language}


def test_a_recording_in_all_languages_changes_between_utterances_only(six: Recognizer):
    pieces = [piece for language in LANGUAGES for piece in (speech(language), PAUSE)]
    events = list(six.stream(np.concatenate((PAUSE, *pieces)), auto(*LANGUAGES)))
    told = {event.utterance: event.language for event in events if isinstance(event, LanguageIdentified)}
    of_texts: dict[int, set[str]] = {}
    for event in events:
        if isinstance(event, Partial | Final):
            assert event.utterance in told  # before any text
            of_texts.setdefault(event.utterance, set()).add(str(event.language))
    assert all(len(languages) == 1 for languages in of_texts.values())
    assert all(told[each] in ("und", *languages) for each, languages in of_texts.items())


def test_calibrate_fits_the_scales_of_the_languages(checkpoint: Path, tmp_path: Path):
    table = tmp_path / "spoken.tsv"
    lines = ["file\ttext\tlanguage", *(f"{SPOKEN / one}.flac\t-\t{one}" for one in LANGUAGES)]
    table.write_text("\n".join(lines) + "\n")
    given = [str(checkpoint), str(table), "--language", "auto", "--out", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(calibrate, given, catch_exceptions=False)
    assert "beginnings in the right language" in result.output
    for language in LANGUAGES:
        own = load_calibration(tmp_path / "out" / language)
        assert own is not None
        assert own.language is not None
    refused = CliRunner().invoke(calibrate, [*given, "--limit", "3"])
    assert refused.exit_code == 2
    assert "not for --language auto" in refused.output
