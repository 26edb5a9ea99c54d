"""Settings of one session: frozen, checked once, unknown names refused. Milliseconds here, samples inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from .errors import ConfigError
from .frames import SAMPLE_RATE, STRIDE, ms

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]
VadName = Literal["cascade", "webrtc", "silero", "energy", "none"]
Mode = Literal["cached", "window", "offline"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]  # number format of a model

DEVICE: Final = r"^(auto|cpu|cuda(:[0-9]+)?)$"  # names of devices of a model, as a regular expression
SAMPLE_BYTES: Final[dict[Encoding, int]] = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
LOOKAHEAD_MS: Final = 480  # for a model that names none
AUTO: Final = "auto"  # the language of each utterance is identified
ALLOWED_LANGUAGES: Final = (2, 10)  # fewest and most
BOOST: Final = 2.0  # default boost of hotwords, in nats for each letter
MOST_HOTWORDS, LONGEST_HOTWORD, MOST_CHARACTERS = 100, 100, 2_000  # compiling them must not delay other sessions
MOST_TRANSLATIONS = 8  # languages of one session
MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 96_000, 32
MOST_SAMPLES, MOST_UTTERANCES, LONGEST_S = 1 << 40, 1 << 31, 1e8  # of an origin: years of audio
MOST_FINAL_S: Final = 300.0  # of an origin: audio sent again that has finals


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model to load, and how. `Recognizer.load` takes the same names as keywords."""

    model: str = "bundled"  # or a local directory, or a Hugging Face name
    _: KW_ONLY
    revision: str | None = None  # commit, tag or branch of a Hugging Face model
    language: str | None = None  # of sessions that name none, with a multilingual checkpoint such as MMS; or "auto"
    allowed_languages: tuple[str, ...] = ()  # for "auto"
    lid: str | None = None  # a checkpoint that identifies the language, for "auto"; None: the model's confidence does
    device: str = "auto"  # auto, cpu, cuda, or cuda:1 and so on
    dtype: str = "auto"  # one of `Dtype`
    threads: int | None = None  # torch's, for the whole process; None: 1 for a small model on a CPU, else its default
    max_batch: int | None = (
        None  # utterances in one call of the model; None: 64 on a GPU, 1 on a CPU, 4 live steps of a large model there
    )
    lm: Path | str | None = None  # file or folder of a language model, "bundled" or "none"; None: the checkpoint's own
    calibration: Path | str | None = None  # file or folder of a calibration; None: the checkpoint's own
    punctuation_model: str | None = None  # folder or Hugging Face name; None: full stops at pauses
    translators: tuple[str, ...] = ()  # "apertium", folders or Hugging Face names; the first that knows a pair is used
    translate_from: str | None = None  # language of the speech, where the checkpoint does not say it
    translate_beams: int = 1  # of neural translators; 1: greedy
    translate_max_lag: float = 10.0  # seconds after a final; a translation that would be later is skipped


class AudioFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Encoding of the client's audio. Channels are interleaved; the session averages them to one."""

    encoding: Encoding = "pcm_s16le"
    sample_rate: int = 16_000  # Hz
    channels: int = 1

    def __post_init__(self) -> None:
        _check_types(self)
        _check("sample_rate", self.sample_rate, MIN_RATE, MAX_RATE, "Hz")
        _check("channels", self.channels, 1, MAX_CHANNELS, "")


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a session continues that began on another server. The default is the start of a new session.

    The client sends its audio again from `sample` on. It has the finals of all audio before `final_end`; no event is
    about that audio.
    """

    sample: int = 0  # of each channel at the client's rate, from the start of the session; `Ack.safe` names one
    utterance: int = 0  # number of the next utterance, or of the one that is open
    final_end: float = 0.0  # seconds, of the last utterance that ended
    decided: bool = False  # the open utterance has had an early command: no second decision on it
    woken: float | None = None  # seconds, where a wake phrase ended that no utterance has followed yet
    language: str | None = None  # the last identified one, with the language "auto"

    def __post_init__(self) -> None:
        _check_types(self)
        _check("origin.sample", self.sample, 0, MOST_SAMPLES, "")
        _check("origin.utterance", self.utterance, 0, MOST_UTTERANCES, "")
        _check("origin.final_end", self.final_end, 0, LONGEST_S, "s")
        _check("origin.woken", self.woken or 0.0, 0, LONGEST_S, "s")

    def at(self, sample_rate: int) -> tuple[int, int]:
        """`sample` and `final_end` as samples at 16 kHz. Raises `ConfigError` if `final_end` is too far ahead."""
        sample = round(self.sample * SAMPLE_RATE / sample_rate)
        final_end = round(self.final_end * SAMPLE_RATE)
        if final_end - sample > MOST_FINAL_S * SAMPLE_RATE:
            raise ConfigError(
                f"origin.final_end is {(final_end - sample) / SAMPLE_RATE:.0f} s after origin.sample; "
                f"at most {MOST_FINAL_S:.0f} s are allowed"
            )
        return sample, max(sample, final_end)


class SessionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One session's settings. Durations are in milliseconds; hop, lookahead and left context in steps of 20 ms."""

    language: str | None = (
        None  # with a multilingual checkpoint: a code or a name, or "auto"; None: the model's default
    )
    allowed_languages: tuple[str, ...] = ()  # two to ten: for "auto", which chooses one for each utterance
    language_enter: float = 0.8  # probability above which an utterance's language is certain
    language_leave: float = 0.9  # the same for another language than that of the utterance before
    language_floor: float = 0.6  # probability below which the language counts as undetermined
    language_least_ms: int = 1_000  # speech before the language can be certain
    language_hold_ms: int = 500  # how long the probability must stay above the threshold
    language_wait_ms: int = 3_000  # the most speech that partials wait for; then the most probable language counts
    vad: VadName = "cascade"  # "none": only the client ends utterances, with flush
    vad_threshold: float = 0.5  # speech probability that opens the gate; 0.15 less closes it
    pre_roll_ms: int = 300  # audio before the first speech frame that belongs to the utterance
    post_roll_ms: int = 240  # audio after the last speech frame that belongs to the utterance
    min_speech_ms: int = 210  # speech shorter than this does not open the gate
    hangover_ms: int = 600  # silence that ends an utterance
    endpointing: Literal["fixed", "adaptive"] = "fixed"  # "adaptive": each pause gets its own hangover
    least_hangover_ms: int = 240  # adaptive: where pauses so far and the text say that the speaker is done
    most_hangover_ms: int = 900  # adaptive: in the middle of a sentence
    mode: Mode | None = None  # None: "cached" where the checkpoint allows it, else "window"; "offline": no partials
    hop_ms: int = 480  # new audio in each live step
    max_hop_ms: int = 1_920  # widest hop of an overloaded service
    lookahead_ms: int | None = None  # right context before a frame is committed; None: the model's own
    left_context_ms: int = 4_000  # left context of a live step before the committed edge
    max_utterance_ms: int = 20_000  # longer speech is cut at its best pause
    trailing_blank_ms: int = 1_600  # an utterance ends this long after the last token; never if 0 or without a gate
    finals: Literal["full", "append"] = "full"  # "append": the final never revises committed text
    hold_back_ms: int = 160  # a partial shows the newest word once this much audio, or another word, follows it
    update_ms: int = 200  # least audio between two partials
    partials: bool = True  # False: no live steps, and no end of an utterance by trailing blanks
    hotwords: tuple[str, ...] = ()  # phrases to prefer over similar words: "PHRASE" or "PHRASE:BOOST"
    lm_for: Literal["auto", "finals", "all", "none"] = "auto"  # events with a language model; "auto": the model's own
    nbest: int = 0  # hypotheses in each final, with a language model
    grammar: str = ""  # text of a grammar of voice commands; each utterance is then a command or rejected
    command_score: float = 0.5  # least score of a command
    command_word_score: float = 0.05  # least score of each of its words
    command_alternatives: int = 0  # other possible commands in each result
    wake: str = ""  # phrase that must precede a command
    wake_score: float = 0.5  # least score of the wake phrase
    wake_ms: int = 5_000  # how long after the wake phrase a command may start
    punctuation: bool = False  # finals have a `display_text`
    translate_to: tuple[str, ...] = ()  # languages into which finals are translated, as codes or names

    def __post_init__(self) -> None:
        _check_types(self)
        _check("vad_threshold", self.vad_threshold, 0.2, 0.99, "")
        _check("pre_roll_ms", self.pre_roll_ms, 0, 2_000, "ms")
        _check("post_roll_ms", self.post_roll_ms, 0, 2_000, "ms")
        _check("min_speech_ms", self.min_speech_ms, 0, 2_000, "ms")
        _check("hangover_ms", self.hangover_ms, 60, 10_000, "ms")
        _check("least_hangover_ms", self.least_hangover_ms, 60, 10_000, "ms")
        _check("most_hangover_ms", self.most_hangover_ms, self.least_hangover_ms, 10_000, "ms")
        _check("hop_ms", self.hop_ms, 20, 5_000, "ms")
        _check("max_hop_ms", self.max_hop_ms, 20, 20_000, "ms")
        _check("lookahead_ms", self.lookahead, 0, 5_000, "ms")
        _check("left_context_ms", self.left_context_ms, 0, 30_000, "ms")
        _check("max_utterance_ms", self.max_utterance_ms, 2_000, 60_000, "ms")
        _check("hold_back_ms", self.hold_back_ms, 0, 2_000, "ms")
        _check("update_ms", self.update_ms, 0, 5_000, "ms")
        _check("nbest", self.nbest, 0, 50, "")
        _check("command_score", self.command_score, 0.01, 1, "")
        _check("command_word_score", self.command_word_score, 0, 1, "")
        _check("command_alternatives", self.command_alternatives, 0, 20, "")
        _check("wake", len(self.wake), 0, LONGEST_HOTWORD, "characters")
        _check("wake_score", self.wake_score, 0.01, 0.99, "")
        _check("wake_ms", self.wake_ms, 0, 60_000, "ms")
        _check("translate_to", len(self.translate_to), 0, MOST_TRANSLATIONS, "languages")
        read_hotwords(self.hotwords)
        _check_languages(self)
        if self.nbest and self.appends:
            raise ConfigError("nbest needs finals 'full'")
        if self.post_roll_ms > self.hangover_ms:
            raise ConfigError("post_roll_ms must not be longer than hangover_ms")
        if self.trailing_blank_ms:
            _check("trailing_blank_ms", self.trailing_blank_ms, max(200, self.post_roll_ms), 10_000, "ms")
        if self.lookahead_ms is not None and self.hop_ms + self.lookahead_ms > self.max_utterance_ms:
            raise ConfigError("hop_ms and lookahead_ms together must not be longer than max_utterance_ms")
        for name in ("hop_ms", "lookahead_ms", "left_context_ms"):
            if ms(getattr(self, name) or 0) % STRIDE:
                raise ConfigError(f"{name} must be a multiple of 20 ms (one frame)")

    @property
    def lookahead(self) -> int:
        """`lookahead_ms`, in milliseconds, where the model has none of its own."""
        return LOOKAHEAD_MS if self.lookahead_ms is None else self.lookahead_ms

    @property
    def live(self) -> bool:
        """Whether there are live steps."""
        return self.mode != "offline" and (self.partials or self.finals == "append")

    @property
    def shows_partials(self) -> bool:
        return self.live and self.partials

    @property
    def appends(self) -> bool:
        """Whether finals come from the live steps, without a second pass."""
        return self.live and self.finals == "append"


def read_hotwords(hotwords: Sequence[str]) -> dict[str, float]:
    """Parse hotwords into phrases and boosts, in nats for each letter. Raises `ConfigError`."""
    if len(hotwords) > MOST_HOTWORDS:
        raise ConfigError(f"hotwords: {len(hotwords)} phrases; at most {MOST_HOTWORDS} are allowed")
    if (characters := sum(map(len, hotwords))) > MOST_CHARACTERS:
        raise ConfigError(f"hotwords: {characters} characters; at most {MOST_CHARACTERS} are allowed")
    boosts: dict[str, float] = {}
    for each in hotwords:
        if len(each) > LONGEST_HOTWORD:
            raise ConfigError(f"hotwords: a phrase of {len(each)} characters; at most {LONGEST_HOTWORD} are allowed")
        phrase, colon, boost = each.rpartition(":")
        try:
            boosts[phrase if colon else each] = float(boost) if colon else BOOST
        except ValueError:
            raise ConfigError(f"hotwords: {each!r}: the boost after the colon must be a number") from None
    return boosts


def check_language_choice(language: str | None, allowed: Sequence[str]) -> None:
    """Raise `ConfigError` unless "auto" comes with two to ten allowed languages, and another choice with none."""
    if language != AUTO:
        if allowed:
            raise ConfigError("allowed_languages needs the language 'auto'")
        return
    fewest, most = ALLOWED_LANGUAGES
    if not fewest <= len(allowed) <= most:
        raise ConfigError(
            f"language 'auto' needs {fewest} to {most} allowed_languages, not {len(allowed)}; "
            "with one, make it the language"
        )


def _check_languages(config: SessionConfig) -> None:
    if config.language == AUTO or config.allowed_languages:
        check_language_choice(config.language, config.allowed_languages)
    _check("language_enter", config.language_enter, 0.5, 0.999, "")
    _check("language_leave", config.language_leave, config.language_enter, 0.999, "")
    _check("language_floor", config.language_floor, 0, config.language_enter, "")
    _check("language_least_ms", config.language_least_ms, 0, 10_000, "ms")
    _check("language_hold_ms", config.language_hold_ms, 0, 5_000, "ms")
    shortest = max(200, config.language_least_ms + config.language_hold_ms)
    _check("language_wait_ms", config.language_wait_ms, shortest, 15_000, "ms")
    if config.language == AUTO and (config.grammar.strip() or config.wake):
        raise ConfigError("voice commands need one language; with 'auto' leave out grammar and wake")


def _check_types(settings: msgspec.Struct) -> None:
    """Check the types of settings created in Python; msgspec checks only while it decodes."""
    for field in msgspec.structs.fields(settings):
        try:
            msgspec.convert(getattr(settings, field.name), field.type)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{field.name}: {error}") from None


def _check(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}; it must be {low} to {high} {unit}".rstrip())
