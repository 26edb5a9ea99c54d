"""A head that identifies the language over the frozen encoder of the recognizer, for `--lid`.

As in `Wav2Vec2ForSequenceClassification` a projector is applied to each frame, the mean over time follows, then a
classifier. Here the projector standardizes the features and the classifier is a softmax regression: a convex fit to the
means of beginnings of recordings. All languages count alike; within one, synthetic and real speech; within these, all
speakers, so that no voice stands for its language. Cross-validation by speakers chooses the penalty.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import safetensors.torch
import soxr
import torch
import torch.nn.functional as F
import transformers
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ....client.bench.corpus import CorpusRecording, read_corpus, read_samples
from ....streaming.model.source import find_source
from ...settings import Augmentation
from ..settings import RATE

SEED: Final = 15
SECONDS: Final = (1.0, 2.0, 4.0)  # of the beginnings
LEAD: Final = 0.3  # seconds of quiet before the speech, at most: live audio begins with some
QUIET: Final = (-4.5, -3.0)  # common logarithm of its amplitude
BATCH: Final = 16
FOLDS: Final = 5
PENALTIES: Final = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)

_Config: Any = transformers.Wav2Vec2Config
_Model: Any = transformers.Wav2Vec2ForCTC
_torch_files: Any = cast(Any, safetensors.torch)


@dataclass(frozen=True, slots=True)
class Beginnings:
    """Means of the encoder's frames over beginnings of recordings, (n, hidden), and where each comes from."""

    means: Tensor
    origins: Sequence[tuple[int, Path, str]]  # language, as a place in the list of languages; table; speaker

    @property
    def languages(self) -> Tensor:
        """(n,) places in the list of languages."""
        return torch.tensor([language for language, *_ in self.origins])

    def take(self, chosen: Sequence[int]) -> Beginnings:
        return Beginnings(self.means[list(chosen)], [self.origins[each] for each in chosen])

    def weights(self) -> Tensor:
        """Of each beginning; the sum is 1. At each level of `origins` all count alike."""
        counts = Counter(self.origins)
        levels = set(self.origins)
        speakers = Counter((language, table) for language, table, _ in levels)
        tables = Counter(language for language, _ in speakers)
        shares = [len(tables) * tables[o[0]] * speakers[o[:2]] * counts[o] for o in self.origins]
        return 1 / torch.tensor(shares, dtype=torch.float64)


def collect(model: str, tables: Mapping[str, Sequence[Path]], most: int) -> Beginnings:
    """Beginnings of at most `most` recordings of each speaker; short ones continue with the next of that speaker."""
    source = Path(find_source(model).path)
    network = _Model.from_pretrained(source, use_safetensors=True, dtype=torch.float32).wav2vec2.eval()
    draw, means, origins = np.random.default_rng(SEED), list[Tensor](), list[tuple[int, Path, str]]()
    for place, (language, listed) in enumerate(tables.items()):
        for table in listed:
            rows = _few(read_corpus(table), most)
            for seconds in SECONDS:
                pieces = [_beginning(rows, at, int(seconds * RATE), draw) for at in range(len(rows))]
                for at in tqdm(range(0, len(pieces), BATCH), f"{language}, {seconds:.0f} s", mininterval=10):
                    means.append(_means(network, pieces[at : at + BATCH]))
                origins += [(place, table, row.speaker) for row in rows]
    return Beginnings(torch.cat(means), origins)


def _few(rows: Sequence[CorpusRecording], most: int) -> list[CorpusRecording]:
    seen = Counter[str]()
    kept = list[CorpusRecording]()
    for row in rows:
        seen[row.speaker] += 1
        if seen[row.speaker] <= most:
            kept.append(row)
    return kept


def _beginning(rows: Sequence[CorpusRecording], at: int, length: int, draw: np.random.Generator) -> NDArray[np.float32]:
    lead = int(draw.uniform(0, LEAD) * RATE)
    quiet = draw.normal(0, 10 ** draw.uniform(*QUIET), lead).astype(np.float32)
    pieces, have = [quiet], lead
    speed = float(draw.uniform(*Augmentation().speed)) if draw.random() < 2 / 3 else 1.0  # other voices, in effect
    following = [row for row in (*rows[at:], *rows[:at]) if row.speaker == rows[at].speaker]
    while have < length:
        for row in following:
            if have < length:
                pieces.append(soxr.resample(read_samples(row), RATE * speed, RATE, "MQ"))
                have += len(pieces[-1])
    return np.concatenate(pieces)[:length]


@torch.inference_mode()
def _means(network: Any, pieces: Sequence[NDArray[np.float32]]) -> Tensor:
    return network(torch.from_numpy(np.stack(pieces))).last_hidden_state.mean(1).double()


@dataclass(frozen=True, slots=True)
class Head:
    """Softmax regression on standardized means."""

    centre: Tensor  # (hidden,)
    scale: Tensor  # (hidden,)
    weight: Tensor  # (languages, hidden)
    bias: Tensor  # (languages,)

    def logits(self, means: Tensor) -> Tensor:
        return F.linear((means - self.centre) / self.scale, self.weight, self.bias)


def fit(data: Beginnings, languages: int, penalty: float) -> Head:
    """Minimize the weighted cross entropy plus `penalty` times the sum of the squared weights."""
    own = data.weights()
    centre = own @ data.means
    scale = (own @ (data.means - centre) ** 2).sqrt() + 1e-6
    x = (data.means - centre) / scale
    weight = torch.zeros(languages, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(languages, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = own @ F.cross_entropy(F.linear(x, weight, bias), data.languages, reduction="none")
        found = found + penalty * weight.square().sum()
        cast(Any, found).backward()
        return found

    cast(Any, optimiser).step(loss)
    return Head(centre, scale, weight.detach(), bias.detach())


def choose_penalty(data: Beginnings, languages: int) -> tuple[float, float, float]:
    """The penalty with the least cross entropy for speakers outside the fit; that entropy, and the share of right
    languages."""
    names = sorted({speaker for *_, speaker in data.origins})
    random.Random(SEED).shuffle(names)
    fold = {name: at % FOLDS for at, name in enumerate(names)}
    folds = [[at for at, (*_, speaker) in enumerate(data.origins) if fold[speaker] == each] for each in range(FOLDS)]
    found = list[tuple[float, float, float]]()
    for penalty in PENALTIES:
        losses, rights = 0.0, 0.0
        for each in folds:
            held, others = data.take(each), data.take(sorted(set(range(len(data.origins))) - set(each)))
            logits, own = fit(others, languages, penalty).logits(held.means), held.weights()
            losses += float(own @ F.cross_entropy(logits, held.languages, reduction="none")) / FOLDS
            rights += float(own @ (logits.argmax(1) == held.languages).double()) / FOLDS
        found.append((losses, penalty, rights))
    loss, penalty, right = min(found)
    return penalty, loss, right


def save(head: Head, languages: Sequence[str], model: str, folder: Path) -> None:
    """Write config.json and the head's weights as `Wav2Vec2ForSequenceClassification` names them, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = len(head.centre)
    config = _Config.from_pretrained(find_source(model).path)
    config.update({
        "architectures": ["Wav2Vec2ForSequenceClassification"],
        "classifier_proj_size": hidden,
        "id2label": dict(enumerate(languages)),
        "label2id": {language: place for place, language in enumerate(languages)},
    })  # fmt: skip
    config.save_pretrained(folder)
    tensors = {
        "projector.weight": torch.diag(1 / head.scale),
        "projector.bias": -head.centre / head.scale,
        "classifier.weight": head.weight,
        "classifier.bias": head.bias,
    }
    half = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    path = folder / "model.safetensors"
    _torch_files.save_file(half, path, metadata={"format": "pt"})
    path.chmod(0o644)
