"""Hostile inputs for the fuzz targets: valid messages and files, and Hypothesis strategies that mutate them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray
from xlsr_live.server.dialects.containers import available

from tests.support.fakes import sound

PCM = (32_768 * sound("AB CD EF " + "." * 8)).astype("<i2").tobytes()[:12_800]
WAV = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\xff\xff\xff\xff"
OGG = b"OggS\0\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0"
WEBM = (
    b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x04B\x85\x81\x02"
)


def contained(container: str, codec: str, layout: str, samples: NDArray[np.int16], rate: int = 16_000) -> bytes:
    """A container file with the samples in every channel. libopus needs a rate of 48 kHz."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        whole = np.repeat(samples, stream.layout.nb_channels)[None]
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        pieces = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=960)
        for piece in (*pieces.resample(frame), *pieces.resample(None), None):
            output.mux(stream.encode(piece))
    return file.getvalue()


def _containers() -> list[bytes]:
    """Small complete files, and one whose format changes in the middle; none without PyAV."""
    if not available():
        return []
    brief = np.frombuffer(PCM, "<i2")[:1_920]
    kinds = [
        ("webm", "libopus", "mono", 48_000),
        ("ogg", "flac", "7.1", 16_000),
        ("matroska", "flac", "octagonal", 16_000),
        ("matroska", "pcm_f32le", "hexadecagonal", 16_000),
        ("ogg", "libopus", "7.1", 48_000),
        ("ogg", "flac", "stereo", 96_000),
    ]
    whole = [contained(container, codec, layout, brief, rate) for container, codec, layout, rate in kinds]
    return [*whole, whole[1] + whole[-1]]


CONTAINERS = _containers()

NATIVE = [
    {"type": "start", "version": 1, "encoding": "pcm_f32le", "sample_rate": 48_000, "channels": 2, "config": {}},
    {"type": "start", "config": {"vad": "none", "hop_ms": 320, "hotwords": ["AB:3", "CD"], "grammar": "a: b [c]"}},
    {"type": "start", "config": {"wake": "AB", "nbest": 3, "max_utterance_ms": 2_000, "finals": "append"}},
    {"type": "start", "resume": "mZ8fWb0s4nJq1Tg7xUcEoVh2RkPyLdAi", "events": 7, "resumable": True},
    {"type": "start", "origin": {"sample": 7_680, "utterance": 3, "final_end": 0.6, "decided": True}, "events": 9},
    {"type": "movable"},
    {"type": "flush"},
    {"type": "hotwords", "phrases": ["AB", "CD:3.5"]},
    {"type": "grammar", "text": "light: (state: A | B)\nstop: C"},
    {"type": "end"},
]
VOSK = [
    {"config": {"sample_rate": 16_000, "words": 1, "max_alternatives": 2, "phrase_list": ["A B", "[unk]"]}},
    {"reset": 1},
    {"eof": 1},
]
DEEPGRAM = [
    {"type": "KeepAlive"},
    {"type": "Finalize"},
    {"type": "Configure", "keyterms": ["A"]},
    {"type": "CloseStream"},
]
_INPUT = {
    "format": {"type": "audio/pcm", "rate": 24_000},
    "transcription": {"model": "x", "keywords": ["A"]},
    "noise_reduction": None,
    "turn_detection": {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200},
}
REALTIME = [
    {"type": "session.update", "session": {"type": "transcription", "audio": {"input": _INPUT}, "include": ["x"]}},
    {
        "type": "transcription_session.update",
        "session": {"input_audio_format": "g711_ulaw", "turn_detection": None, "include": []},
    },
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(PCM[:4_800]).decode(), "event_id": "e"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]
WYOMING = [
    {"type": "describe"},
    {"type": "ping", "data": {"text": "x"}},
    {"type": "transcribe", "data": {"language": "en", "vad_sensitivity": "relaxed", "transcript_names": ["A"]}},
    {"type": "audio-start", "data": {"rate": 16_000, "width": 2, "channels": 1}},
    {"type": "audio-chunk", "data": {"rate": 16_000, "width": 3, "channels": 2}, "payload_length": 600},
    {"type": "audio-stop"},
]
QUERY = [
    "encoding=linear16&sample_rate=16000&channels=2&interim_results=true&utterance_end_ms=1000&endpointing=300",
    "encoding=mulaw&sample_rate=8000&keyterm=A&keywords=B:2&vad_events=true",
    "encoding=ogg-opus&multichannel=false&ticket=x&language=en",
    "",
]
PATHS = [
    "/",
    "/v1/stream",
    "/v1/ticket",
    "/v1/reload",
    "/v1/models",
    "/v1/listen",
    "/v1/realtime/client_secrets",
    "/v1/realtime/transcription_sessions",
    "/v1/shared/x",
]
FORM = {
    "model": "whisper-1",
    "response_format": "verbose_json",
    "language": "en",
    "stream": "false",
    "timestamp_granularities[]": "word",
    "include[]": "logprobs",
    "keywords[]": "A",
    "chunking_strategy": '{"type": "server_vad", "threshold": 0.5}',
    "chunking_strategy[type]": "server_vad",
    "chunking_strategy[silence_duration_ms]": "200",
}
SETTINGS = (
    'host = "::1"\nport = 1\nmax_sessions = "auto"\norigins = ["https://a.example"]\nidle_timeout_s = 5.5\nlm = ""\n'
)
TOKENS = (
    f'[a]\ntoken = "x"\nmax_sessions = 2\nadmin = true\n["b c"]\nsha256 = "{"0a" * 32}"\naudio_s_per_minute = 9.5\n'
)
GRAMMAR = "<r> = (ein | zwei){1,3}\nlight: [please] turn (state: A | B) <number 1..99> the <r>+ light*\nstop: C\n"

DEEP = [
    "[" * 30_000,
    '{"session":' + "[" * 3_000,
    "[" * 900 + "]" * 900,
    '{"type":"session.update","session":{"include":' + "[" * 930 + "]" * 930 + "}}",
    '{"a":' * 30_000,
    '{"type":"start","config":{"hotwords":' + "[" * 30_000,
    '{"config":' * 9_000,
]

texts = st.text(max_size=12) | st.sampled_from(
    ["", "\0", "\ud7ff", "9" * 5_000, "-1", "nan", "inf", "1e999", "true", "\u0665"]
)
numbers = st.integers() | st.floats(allow_nan=False) | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, 1e308])
values: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, each in inside for deeper in _paths(each, (*path, key)))]


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    key, *rest = path
    whole = dict(value) if isinstance(value, dict) else list(value)
    whole[key] = _replaced(whole[key], tuple(rest), by)
    return whole


@st.composite
def with_replaced_values(draw: Callable[..., Any], seeds: list[dict[str, Any]]) -> Any:
    """One of the messages with up to two of its values replaced."""
    message: Any = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 2))):
        message = _replaced(message, draw(st.sampled_from(_paths(message))), draw(values))
    return message


@st.composite
def with_mutated_bytes(draw: Callable[..., Any], whole: bytes) -> bytes:
    """The bytes with up to four random cuts and insertions."""
    for _ in range(draw(st.integers(0, 4))):
        at, cut = draw(st.integers(0, len(whole))), draw(st.integers(0, 8))
        whole = whole[:at] + draw(st.binary(max_size=8)) + whole[at + cut :]
    return whole


def texts_of(seeds: list[dict[str, Any]]) -> SearchStrategy[str]:
    """Text messages: valid, with replaced values, with mutated bytes, arbitrary, and deeply nested."""
    whole = with_replaced_values(seeds).map(json.dumps)
    mutated = whole.flatmap(lambda text: with_mutated_bytes(text.encode())).map(
        lambda data: data.decode(errors="replace")
    )
    return st.one_of(whole, whole, mutated, texts, values.map(json.dumps), st.sampled_from(DEEP))


audio = st.one_of(
    st.integers(0, len(PCM)).map(lambda size: PCM[:size]),
    st.binary(max_size=64),
    st.sampled_from([b"", WAV + PCM, bytes(1 << 16), bytes((1 << 16) + 1), np.full(64, np.nan, "<f4").tobytes()]),
    with_mutated_bytes(WAV).map(lambda head: head + PCM[:3_200]),
    with_mutated_bytes(OGG),
    with_mutated_bytes(WEBM),
    st.sampled_from([WEBM, *CONTAINERS]),
    st.sampled_from([OGG, *CONTAINERS]).flatmap(with_mutated_bytes),
)


def conversations(seeds: list[dict[str, Any]]) -> SearchStrategy[list[str | bytes]]:
    """Up to eight messages, text and audio mixed."""
    return st.lists(texts_of(seeds) | audio, min_size=1, max_size=8)


_SPEECH = np.tile((32_768 * sound("AB C~D.. " + "." * 5 + "EF GH. A")).astype("<i2"), 2)


@st.composite
def moves(draw: Callable[..., Any]) -> tuple[str, list[str | bytes]]:
    """A `start` with an origin, true or not, and what the client sends again: of any format, too little or too much."""
    form = draw(st.sampled_from([{}, {}, {"encoding": "pcm_f32le"}, {"sample_rate": 44_101}, {"channels": 2}]))
    rate = form.get("sample_rate", 16_000)
    sample = draw(st.sampled_from([0, 7_680, 138_240, 1 << 39]) | st.integers(0, 1 << 41))
    ahead = draw(st.floats(-1, 3) | st.floats(-400, 400))
    origin = {
        "sample": sample,
        "utterance": draw(st.integers(0, 9) | numbers),
        "final_end": draw(st.just(max(0.0, sample / rate + ahead)) | numbers),
        "decided": draw(st.booleans()),
        "woken": draw(st.none() | st.just(sample / rate) | numbers),
        "language": draw(st.none() | texts),
    }
    if not draw(st.integers(0, 4)):
        origin = draw(with_replaced_values([origin]))
    vad, grammar = draw(st.sampled_from(["none", "cascade"])), draw(st.sampled_from(["", "a: AB\nb: CD EF"]))
    limits = {"min_speech_ms": 90, "hangover_ms": 240, "max_utterance_ms": 2_000}
    config = {"vad": vad, "grammar": grammar, **draw(st.sampled_from([{}, limits]))}
    start = {"type": "start", **form, "config": config, "origin": origin, "events": draw(st.just(7) | numbers)}
    begin = draw(st.integers(0, len(_SPEECH) // 2))
    sent: list[str | bytes] = []
    for size in draw(st.lists(st.sampled_from([1, 480, 3_000, 16_000]), max_size=6)):
        sent.append(_SPEECH[begin : begin + size].tobytes())
        begin += size
        if not draw(st.integers(0, 3)):
            sent.append("flush")
    return json.dumps(start), sent


@st.composite
def headers(draw: Callable[..., Any]) -> dict[bytes, bytes]:
    """Headers of a handshake; usually none that the server reads."""
    known = {
        b"authorization": [b"Bearer x", b"Token", b"bearer \xff"],
        b"origin": [b"http://localhost", b"http://[", b"null", b"\xff", b"https://evil.example"],
        b"sec-websocket-protocol": [
            b"token, x",
            b"realtime, openai-insecure-api-key.x, openai-beta.realtime-v1",
            b"realtime, openai-insecure-api-key.ek_x." + base64.urlsafe_b64encode(b'{"audio":{"input":{}}}'),
            b"realtime, openai-insecure-api-key.ek_x." + base64.urlsafe_b64encode(b"[" * 2_000),
            b",,",
        ],
        b"openai-beta": [b"realtime=v1"],
        b"host": [b"localhost:8765", b""],
        b"content-type": [b"application/json", b"audio/wav"],
        b"last-event-id": [b"7", b"-1"],
    }
    names = draw(st.lists(st.sampled_from(list(known)), max_size=2, unique=True))
    return {name: draw(st.sampled_from(known[name]) | st.binary(max_size=9)) for name in names}


@st.composite
def queries(draw: Callable[..., Any]) -> bytes:
    """Query strings with one value replaced, or arbitrary bytes."""
    parts = [part.partition("=") for part in draw(st.sampled_from(QUERY)).split("&")]
    at = draw(st.integers(-1, len(parts) - 1))
    pairs = [name + "=" + (draw(texts) if place == at else value) for place, (name, _, value) in enumerate(parts)]
    return draw(st.just("&".join(pairs).encode(errors="replace")) | st.binary(max_size=30))


@st.composite
def packets(draw: Callable[..., Any]) -> bytes:
    """A byte stream of the Wyoming protocol."""
    stream = b""
    for message in draw(st.lists(with_replaced_values(WYOMING), min_size=1, max_size=6)):
        if isinstance(message, dict) and draw(st.booleans()):
            message = {**message, draw(st.sampled_from(["data_length", "payload_length"])): draw(st.integers(-2, 99))}
        size = message.get("payload_length") if isinstance(message, dict) else 0
        stream += json.dumps(message).encode() + b"\n" + PCM[: size if isinstance(size, int) and size > 0 else 0]
    return draw(
        st.just(stream) | with_mutated_bytes(stream) | st.sampled_from([text.encode() + b"\n" for text in DEEP])
    )


@st.composite
def forms(draw: Callable[..., Any]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Headers of an upload, and its body in two pieces."""
    fields = dict(FORM)
    for name in draw(st.lists(st.sampled_from(list(FORM)), max_size=3)):
        fields[name] = draw(texts | values.map(json.dumps) | st.sampled_from(DEEP))
    for name in draw(st.lists(st.sampled_from(list(FORM)), max_size=6)):
        fields.pop(name, None)
    file = draw(
        st.sampled_from([WAV + PCM, b"", PCM, WEBM, *CONTAINERS])
        | with_mutated_bytes(WAV + PCM[:640])
        | with_mutated_bytes(OGG)
    )
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}' for name, text in fields.items()]
    body = b"".join(b"--B\r\n" + part.encode(errors="replace") + b"\r\n" for part in parts)
    body += b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + file + b"\r\n--B--\r\n"
    body = draw(st.just(body) | with_mutated_bytes(body))
    kind = draw(
        st.sampled_from([b"multipart/form-data; boundary=B", b"application/x-www-form-urlencoded", b"text/plain"])
    )
    cut = draw(st.integers(0, len(body)))
    return {b"content-type": kind}, [body[:cut], body[cut:]]


def documents(whole: str) -> SearchStrategy[str]:
    """The document with mutated bytes, or arbitrary text."""
    return with_mutated_bytes(whole.encode()).map(lambda data: data.decode(errors="replace")) | st.text(max_size=40)
