"""A language asked for, reported, switched and refused with a sentence in every protocol, by the official clients."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from xlsr_live.client.cli import run
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import ConfigError, XlsrLiveError
from xlsr_live.streaming.languages import bcp47
from xlsr_live.streaming.protocol.events import Error, Final, Warning
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import LETTERS, NO_DELIMITER
from tests.support.many_languages import publish_mms
from tests.support.native_reference import as_file, at_rate, pause
from tests.support.realtime_client import COMPLETED
from tests.support.wire import dial, packets, talk

MODEL = "mms-1b-all"
HINT = f"(`xlsr-live languages --model {MODEL}`)"
UNNAMED = (
    f"{MODEL} knows 1,162 languages: name the language (--language, or `language` in a request), or 'auto' with 2 to "
    f"10 allowed_languages {HINT}"
)
UNKNOWN = f"{MODEL} has no 'xhoo'; did you mean 'xho'? it knows 1,162 languages {HINT}"
ONE = "language 'auto' needs 2 to 10 allowed_languages, not 1; with one, make it the language"
ELEVEN = "language 'auto' needs 2 to 10 allowed_languages, not 11; with one, make it the language"
LETTERS_OF = {"de": {*LETTERS, " "}, "zh-Hans": {*NO_DELIMITER}}
Language = str | list[str] | None  # several: each utterance gets one of them
Spoken = list[tuple[str, str]]  # BCP 47 tags and texts, or an error and its sentence


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recognizer]:
    folder = tmp_path_factory.mktemp("models")
    publish_mms(folder / MODEL)
    (folder / MODEL / "adapter.xho.safetensors").write_bytes(b"broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Recognizer.load(MODEL, device="cpu") as recognizer:
            yield recognizer


@pytest.fixture(scope="module")
def server(many: Recognizer) -> Iterator[RunningServer]:
    with running_server(many, ServerSettings(wyoming_port=0, vosk_port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def speech(clip: Callable[[str], Any]) -> bytes:
    """One utterance, and a pause that ends it."""
    return np.concatenate([pause(0.5), clip("george")[:32_000], pause(1)]).tobytes()


def choice(language: Language) -> SessionConfig:
    if isinstance(language, list):
        return SessionConfig(language="auto", allowed_languages=tuple(language))
    return SessionConfig(language=language)


# ── clients: an utterance in one language, then one in another, in one session where the protocol can ──


async def native(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    spoken: Spoken = []
    try:
        async with connect(server.url, config=choice(languages[0])) as session:
            for language in languages:
                if language is not languages[0]:
                    await session.set_language(language)
                await session.send(speech)
            await session.end()
            async for event in session:
                if isinstance(event, Final):
                    spoken.append((bcp47(event.language or ""), event.text))
                if isinstance(event, Warning):
                    spoken.append((event.code, event.message))
    except XlsrLiveError as error:
        spoken.append(("error", str(error).removeprefix("the server ended the session: ")))
    return spoken


async def realtime(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    spoken: Spoken = []
    wide = at_rate(np.frombuffer(speech, np.int16), 24_000).tobytes()
    async with (
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        for language in languages:
            several = isinstance(language, list)
            transcription = {
                "model": "whisper-1",
                **({"languages" if several else "language": language} if language else {}),
            }
            settings = {"type": "transcription", "audio": {"input": {"transcription": transcription}}}
            await connection.session.update(session=settings)
            for packet in packets(wide, 48_000):
                await connection.input_audio_buffer.append(audio=base64.b64encode(packet).decode())
            async for event in connection:
                if event.type == COMPLETED:
                    spoken.append((event.to_dict()["language"], event.transcript))
                    break
                if event.type == "error":
                    return [*spoken, ("error", event.error.message)]
    return spoken


async def deepgram(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    """Its language belongs to the connection."""
    sdk = pytest.importorskip("deepgram", reason="deepgram-sdk, the official client, is not installed")
    from deepgram.core.events import EventType

    place = f"127.0.0.1:{server.port}"
    environment = sdk.DeepgramClientEnvironment(
        base=f"http://{place}", production=f"ws://{place}", agent=f"ws://{place}", agent_rest=f"http://{place}"
    )
    client = sdk.AsyncDeepgramClient(api_key="any", environment=environment)
    spoken: Spoken = []

    def take(message: Any) -> None:
        if message.type == "Error":
            spoken.append(("error", message.description))
        elif message.type == "Results" and (best := message.channel.alternatives[0]).transcript:
            spoken.append((best.languages[0], best.transcript))

    for language in languages:
        form = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16_000}
        chosen = (
            {"language": "multi", "language_hint": language} if isinstance(language, list) else {"language": language}
        )
        async with client.listen.v1.connect(**form, **chosen) as connection:
            connection.on(EventType.MESSAGE, take)
            listening = asyncio.create_task(connection.start_listening())
            for packet in packets(speech, 32_000):
                await connection.send_media(packet)
            await connection.send_close_stream()
            await listening
    return spoken


async def vosk(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    """Like the published test.py, which has no package."""
    spoken: Spoken = []
    try:
        async with dial(f"ws://127.0.0.1:{server.vosk_port}") as websocket:
            for language in languages:
                chosen = {"language": language} if language else {}
                await websocket.send(json.dumps({"config": {"sample_rate": 16_000, **chosen}}))
                for packet in packets(speech, 32_000):
                    await websocket.send(packet)
                    if (reply := json.loads(await websocket.recv())).get("text"):
                        spoken.append((reply["language"], reply["text"]))
            await websocket.send('{"eof" : 1}')
            await websocket.recv()
    except ConnectionClosed as error:
        spoken.append(("error", error.rcvd.reason if error.rcvd else ""))
    return spoken


async def wyoming(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    pytest.importorskip("wyoming", reason="wyoming, the official package, is not installed")
    from wyoming.asr import Transcribe, Transcript
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.error import Error

    form = {"rate": 16_000, "width": 2, "channels": 1}
    spoken: Spoken = []
    async with AsyncTcpClient("127.0.0.1", server.wyoming_port or 0, read_timeout=60) as client:
        for language in languages:
            await client.write_event(Transcribe(language=language).event())
            await client.write_event(AudioStart(**form).event())
            await client.write_event(AudioChunk(audio=speech, **form).event())
            await client.write_event(AudioStop().event())
            while (event := await client.read_event()) is not None:
                if Error.is_type(event.type):
                    return [*spoken, ("error", Error.from_event(event).text)]
                if Transcript.is_type(event.type):
                    spoken.append((event.data["language"], Transcript.from_event(event).text))
                    break
    return spoken


async def files(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    spoken: Spoken = []
    file = "talk.wav", as_file(np.frombuffer(speech, np.int16))
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any", max_retries=0
    ) as client:
        for language in languages:
            chosen = {"language": language} if language else {}
            try:
                answer = await client.audio.transcriptions.create(
                    file=file, model="m", response_format="verbose_json", **chosen
                )
            except openai.BadRequestError as error:
                return [*spoken, ("error", error.body["message"])]
            spoken.append((answer.language, answer.text))
    return spoken


CLIENTS = [native, realtime, deepgram, vosk, wyoming, files]
Client = Callable[[RunningServer, list[Language], bytes], Awaitable[Spoken]]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


def ask(client: Client, server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    return asyncio.run(asyncio.wait_for(client(server, languages, speech), 60))


@every_client
def test_a_language_is_chosen_reported_and_switched(client: Client, server: RunningServer, speech: bytes):
    spoken = ask(client, server, ["de", "zh"], speech)
    assert [tag for tag, _ in spoken] == ["de", "zh-Hans"]
    for tag, text in spoken:
        assert text
        assert set(text) <= LETTERS_OF[tag]


@every_client
@pytest.mark.parametrize(("language", "sentence"), [(None, UNNAMED), ("xhoo", UNKNOWN)], ids=["unnamed", "unknown"])
def test_a_language_is_refused_with_a_sentence(
    client: Client, server: RunningServer, speech: bytes, language: str | None, sentence: str
):
    longest = 123 if client is vosk else 1_000  # of a close frame's reason: Vosk's protocol has no error messages
    assert ask(client, server, [language], speech) == [("error", sentence[:longest])]


@pytest.mark.parametrize("client", [native, realtime, deepgram], ids=lambda client: client.__name__)
def test_each_utterance_gets_one_of_several_languages(client: Client, server: RunningServer, speech: bytes):
    ((tag, text),) = ask(client, server, [["de", "zh"]], speech)
    assert set(text) <= LETTERS_OF[tag]


@pytest.mark.parametrize("client", [realtime, deepgram], ids=lambda client: client.__name__)
@pytest.mark.parametrize(("several", "sentence"), [(["de"] * 11, ELEVEN), (["de", "xhoo"], UNKNOWN)])
def test_several_languages_are_refused_with_a_sentence(
    client: Client, server: RunningServer, speech: bytes, several: list[str], sentence: str
):
    assert ask(client, server, [several], speech) == [("error", sentence)]


def test_a_damaged_adapter_is_refused_and_other_languages_go_on(server: RunningServer, speech: bytes):
    damaged = f"{MODEL}: the adapter of xho is damaged"
    assert ask(native, server, ["xho"], speech) == [("error", damaged)]
    both = ask(native, server, ["de", "xho"], speech)
    assert [text for tag, text in both if tag == "bad_model"] == [damaged]  # a warning
    assert [tag for tag, text in both if tag != "bad_model" and text] == ["de", "de"]  # the language stays


SENTENCES = pytest.mark.parametrize(
    ("language", "allowed", "sentence"),
    [
        (None, (), UNNAMED),
        ("xhoo", (), UNKNOWN),
        ("auto", ("de",), ONE),
        ("auto", ("de",) * 11, ELEVEN),
        ("auto", ("de", "xhoo"), UNKNOWN),
    ],
    ids=["unnamed", "unknown", "one", "eleven", "lacking"],
)


@SENTENCES
def test_python_gets_the_sentence(
    many: Recognizer, speech: bytes, language: str | None, allowed: tuple[str, ...], sentence: str
):
    with pytest.raises(ConfigError) as refusal:
        many.transcribe(np.zeros(16_000, np.float32), SessionConfig(language=language, allowed_languages=allowed))
    assert str(refusal.value) == sentence


@SENTENCES
def test_the_native_protocol_gets_the_sentence(
    server: RunningServer, language: str | None, allowed: tuple[str, ...], sentence: str
):
    start = json.dumps({"type": "start", "config": {"language": language, "allowed_languages": allowed}})
    (error,) = asyncio.run(talk(server.url, [start])).events
    assert isinstance(error, Error)
    assert (error.code, error.message.partition(" - at ")[0]) == ("bad_config", sentence)


@SENTENCES
def test_the_command_line_gets_the_sentence(
    many: Recognizer,
    clip: Callable[[str], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    language: str | None,
    allowed: tuple[str, ...],
    sentence: str,
):
    (tmp_path / "talk.wav").write_bytes(as_file(clip("george")[:16_000]))
    options = ["--language", language] if language else []
    for each in allowed:
        options += ["--allowed-language", each]
    assert run(["transcribe", str(tmp_path / "talk.wav"), "--model", many.info.name, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.removeprefix("xlsr-live: ").removeprefix(f"{tmp_path / 'talk.wav'}: ") == f"{sentence}\n"
