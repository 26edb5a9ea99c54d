"""Cut sentences into phrases at word boundaries, and join phrases of one speaker to new sentences.

The corpora are small, and a network overfits to sentences that it sees often. New sentences from phrases reduce this
(Lam et al., "On-the-fly Aligned Data Augmentation for Sequence-to-Sequence ASR", 2021). Forced alignment with the
partly trained network finds the words (Viterbi over CTC states).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from tqdm import tqdm

from ..network import Network
from ..precision import mixed
from .data import Speech
from .prepare import PHRASE, Utterance, read_utterances, write_table
from .settings import FRAME, HOP, RATE, SCALE, Work
from .text import BLANK, VOCABULARY, encode

CORPORA = ("kathleen", "librispeech", "an4", "storybooks")
WORDS = (1, 4)  # of a phrase, least and most
SURE = -0.35  # mean log-probability of an alignment's frames; an alignment below it is rejected
CUT = RATE // 100  # length in samples of the windows whose energy decides where to cut


def phrases(work: Work, speech: Speech, network: Network) -> list[Utterance]:
    """Read the phrases of the training side from WORK/audio/phrases.tsv. `network` makes it if it is missing."""
    table, source = work.audio / "phrases.tsv", work.audio / "real.tsv"
    if not table.exists() or table.stat().st_mtime < source.stat().st_mtime:
        network.eval()
        draw, found = np.random.default_rng(0), list[Utterance]()
        whole = [u for u in speech.utterances if u.split == "train" and u.corpus in CORPORA and " " in u.text]
        for u in tqdm(whole, "cutting into phrases", mininterval=10):
            audio = speech.audio(u)
            if bounds := boundaries(audio, u.text, log_probabilities(network, audio)):
                found += _cut(u, bounds, draw)
        write_table(table, found)
    return read_utterances(table)


@torch.inference_mode()
def log_probabilities(network: Network, audio: np.ndarray) -> np.ndarray:
    """(frames, vocabulary) of samples (n,) in [-1, 1)."""
    with mixed(torch.device("cpu")):
        logits = network(torch.from_numpy(audio * SCALE)[None], torch.tensor([len(audio)]))[0][0]
    return logits.float().log_softmax(-1).numpy()


def boundaries(audio: np.ndarray, text: str, logp: np.ndarray) -> list[int] | None:
    """Samples at which the words of `text` begin, and the end of the last one: one more than there are words. None if
    the alignment is rejected."""
    labels = encode(text)
    frames = align(logp, labels)
    if frames is None:
        return None
    bounds = [0]
    for at, label in enumerate(labels):
        if label == VOCABULARY["|"]:
            low, high = (FRAME // 2 + HOP * int(frames[i]) for i in (at - 1, at + 1))
            bounds.append(_quietest(audio, low, high))
    return [*bounds, len(audio)]


def align(logp: np.ndarray, labels: list[int]) -> np.ndarray | None:
    """The first frame of each label in the best path through (frames, vocabulary) log-probabilities. None if there is
    no path or its score is too low."""
    states = np.full(2 * len(labels) + 1, BLANK)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)  # a label may follow another without a blank
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = logp[0, states[:2]]
    came = np.zeros((len(logp), len(states)), np.int8)  # from how many states back
    for t in range(1, len(logp)):
        options = np.full((3, len(states)), -np.inf)
        options[0] = score
        options[1, 1:] = score[:-1]
        options[2, 2:] = np.where(skips[2:], score[:-2], -np.inf)
        came[t] = options.argmax(0)
        score = options.max(0) + logp[t, states]
    state = len(states) - 1 if score[-1] >= score[-2] else len(states) - 2
    if score[state] < SURE * len(logp):
        return None
    first = np.zeros(len(labels), np.int64)
    for t in range(len(logp) - 1, -1, -1):
        if state % 2:
            first[state // 2] = t
        state -= int(came[t, state])
    return first


def _quietest(audio: np.ndarray, low: int, high: int) -> int:
    """The middle of the window of `CUT` samples in [low, high) with the least energy."""
    power = np.convolve(audio[low:high] ** 2, np.ones(CUT), "valid")
    return low + int(power.argmin()) + CUT // 2 if len(power) else (low + high) // 2


def _cut(u: Utterance, bounds: list[int], draw: np.random.Generator) -> list[Utterance]:
    words, cut = u.text.split(), [0]
    while cut[-1] < len(words):
        cut.append(min(len(words), cut[-1] + int(draw.integers(WORDS[0], WORDS[1] + 1))))
    return [
        Utterance(
            u.source, u.start + bounds[a], bounds[b] - bounds[a], u.corpus, u.speaker, PHRASE, " ".join(words[a:b])
        )
        for a, b in pairwise(cut)
        if bounds[b] - bounds[a] > FRAME
    ]
