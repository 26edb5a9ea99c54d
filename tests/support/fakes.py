"""Small fakes at the core's boundary: an encoder and a detector whose answers are functions of the samples alone.

The audio is a sequence of constant levels in sixteenths of full scale: 0 is silence, 1 is noise (it
opens the gate and has no words), 2 ends a word and 3 to 10 are the letters A to H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xlsr_live.streaming.audio.normalize import EPSILON, normalize
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.languages import LanguageSet
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.frames import frames
from xlsr_live.streaming.model.info import ModelInfo
from xlsr_live.streaming.requests import MULTIPLE, CachedFeatures, CachedStep, CacheHandle, Window

Float32 = NDArray[np.float32]

LETTERS = "ABCDEFGH"
VOCABULARY = Vocabulary.from_tokens(["<pad>", "|", *LETTERS], blank=0)


def sound(text: str, *, letter: int = 4, gap: int = 2) -> Float32:
    """Samples of `text`: a letter, a space that ends a word, `~` for 100 ms of noise, `.` for 100 ms of silence.

    Every letter lasts `letter` frames and is followed by `gap` frames of noise, which are blanks.
    """
    levels: list[int] = []
    for char in text:
        match char:
            case ".":
                levels += [0] * 5
            case "~":
                levels += [1] * 5
            case " ":
                levels += [2] * 2
            case _:
                levels += [LETTERS.index(char) + 3] * letter + [1] * gap
    return np.repeat(np.array(levels, np.float32) / 16, 320)


class FakeEncoder:
    """One row for every 400 samples, 320 apart. The sample in the middle of a frame decides its token, the sum of all
    400 its probability; with `context` also the sum of all samples in the request, so that a request with wrong samples
    changes events.
    """

    vocabulary = VOCABULARY
    epsilon = EPSILON
    info = ModelInfo(name="fake", parameters=0, device="cpu", dtype="float32", vocabulary=10, language=None)
    languages = None

    def __init__(self, *, context: bool = True, normalized: bool = False, max_batch: int = 4) -> None:
        self.max_batch = max_batch
        self.normalized = normalized
        self.batches: list[list[int]] = []  # lengths in samples
        self.caches: dict[int, Float32] = {}  # audio of utterances, by number
        self._context = context

    def normalize(self, samples: Float32) -> Float32:
        return normalize(samples, self.epsilon) if self.normalized else samples

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        return True

    def encode(self, batch: Sequence[Float32], recalls: Sequence[CachedFeatures | None] = ()) -> list[Float32]:
        self.batches.append([len(samples) for samples in batch])
        return [self.rows(samples) for samples in batch]

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        return True

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Float32]:
        """The answer to a request for all samples of the window, with the same words as in window mode."""
        return [self._step(samples, *reuse) for samples, reuse in batch]

    def _step(self, samples: Float32, memory: CacheHandle, window: Window) -> Float32:
        audio = self.caches.get(memory.number, np.empty(0, np.float32))
        assert frames(len(audio)) == window.encoded
        assert window.first == max(0, window.committed - memory.left_context)
        assert window.encoded - window.committed <= memory.lookahead
        if len(samples):
            shared = audio[320 * window.encoded :]
            assert len(shared) in (0, 80)
            assert np.array_equal(samples[: len(shared)], shared)
            audio = self.caches[memory.number] = np.concatenate((audio[: 320 * window.encoded], samples))
        assert frames(len(audio)) == window.newest
        return self.rows(audio[slice(*window.samples)], memory.language)[window.committed - window.first :]

    def release(self, memory: int) -> None:
        self.caches.pop(memory, None)

    def room(self, config: SessionConfig) -> int | None:
        return None

    def rows(self, samples: Float32, language: str | None = None) -> Float32:
        exact = np.rint(samples.astype(np.float64) * 4096).astype(np.int64)
        sums = np.concatenate(([0], np.cumsum(exact)))
        starts = np.arange(0, len(samples) - 399, 320)
        levels = np.abs(np.rint(exact[starts + 200] / 256).astype(np.int64))
        tokens = np.where(levels < 2, 0, (levels - 1) % len(VOCABULARY))
        heat = 1 + ((sums[starts + 400] - sums[starts]) % 97) / 97
        if self._context:
            heat += (sums[-1] % 89) / 89
        logits = np.zeros((len(starts), len(VOCABULARY)))
        logits[np.arange(len(starts)), tokens] = 1 + heat
        return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


class FakeLanguages:
    """As `encoder.languages`: each language has a vocabulary of its own size, and writes the letters in its own way."""

    tokens: ClassVar = {"deu": LETTERS, "eng": LETTERS.lower() + "xy", "xho": "ΑΒΓΔΕΖΗΘ"}
    known = tuple(sorted(tokens))
    classes: ClassVar = {"deu": (1,), "eng": (3, 4), "xho": (0,)}  # of five; the middle one is French

    def __init__(self, default: str | None = None) -> None:
        self.default = default
        self.loaded: list[str] = []

    def vocabulary(self, language: str) -> Vocabulary:
        return Vocabulary.from_tokens(["<pad>", "|", *self.tokens[language]], blank=0)

    def assets(self, language: str) -> Assets:
        return Assets()

    def ensure(self, language: str) -> None:
        self.loaded.append(language)

    def only(self, *languages: str) -> LanguageSet:
        return LanguageSet({each: (self.vocabulary(each), self.assets(each)) for each in languages})

    def by_head(self, *languages: str) -> LanguageSet:
        """The same, with an identification model, which has more languages."""
        return LanguageSet(self.only(*languages).entries, {each: self.classes[each] for each in languages})


class PolyglotEncoder(FakeEncoder):
    """Speaks three languages. Sound with its sign changed is English, other sound is German; nothing is Xhosa.

    The right language is sure of its tokens, the others are not.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.languages = FakeLanguages()

    def rows(self, samples: Float32, language: str | None = None) -> Float32:
        assert language is not None
        if language == MULTIPLE:
            return self._classes(samples)
        size = len(self.languages.tokens[language]) + 2
        plain = super().rows(samples)
        rows = np.full((len(plain), size), -20.0, np.float32)
        rows[:, : min(size, plain.shape[1])] = plain
        middle = samples[np.arange(len(plain)) * 320 + 200]
        spoken = {"deu": middle > 0, "eng": middle < 0, "xho": middle > 9}[language]
        rows[np.arange(len(rows)), plain.argmax(axis=1)] += np.where(spoken | (plain.argmax(axis=1) == 0), 6.0, -1.0)
        return (rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))).astype(np.float32)

    def _classes(self, samples: Float32) -> Float32:
        """Log-probabilities of the five classes: French is always the most probable one."""
        middle = samples[np.arange(super().rows(samples).shape[0]) * 320 + 200]
        rows = np.zeros((len(middle), 5), np.float32)
        rows[:, 2], rows[:, 1], rows[:, 4] = 20, 12 * (middle > 0), 12 * (middle < 0)
        return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


class LoudVad:
    """Every frame that is not silent is speech."""

    def __call__(self, frames: Float32) -> list[float]:
        return [float(np.abs(frame).mean() > 0.03) for frame in frames]

    def reset(self) -> None:
        pass
