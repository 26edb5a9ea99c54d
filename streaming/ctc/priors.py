"""Label priors: what a beam search takes off the log-probabilities of tokens that a model writes often.

A CTC network learns the frequencies of its training texts along with the sounds: above all it learns to write blanks,
and where it is unsure it omits letters. A language model knows better what is frequent, so the search divides the
probability of a token by a power of its prior: log p(token | audio) - `scale` x log p(token), as hybrid recognizers
divide by the priors of their states (Bourlard and Morgan, 1994; for CTC: Miao et al., arXiv 1507.08240; Manohar et al.,
arXiv 1810.11352). The prior is the mean probability of the token over all frames of recordings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError

FILE: Final = "label_priors.json"

_LEAST: Final = 1e-4  # tokens that the recordings lack are not boosted without bound

Float32 = NDArray[np.float32]


class LabelPriors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The priors of a checkpoint, in the order of its vocabulary, and the power of them that a search divides by."""

    priors: tuple[float, ...]
    scale: float

    def __post_init__(self) -> None:
        if not (0 <= self.scale <= 2 and all(0 <= prior <= 1 for prior in self.priors)):
            raise ValueError("the scale must be 0 to 2, and each prior 0 to 1")

    def offsets(self, blank: int) -> Float32:
        """What a search adds to the log-probabilities, (vocabulary,); nothing for the blank."""
        logs = np.log(np.maximum(np.array(self.priors), _LEAST))
        return (self.scale * (logs[blank] - logs)).astype(np.float32)


class TokenPriors:
    """Measures priors."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | float = 0.0
        self._frames = 0

    def add(self, rows: Float32) -> None:
        """Count the log-probabilities of one utterance, (frames, vocabulary)."""
        self._sum = self._sum + np.exp(rows).sum(axis=0, dtype=np.float64)
        self._frames += len(rows)

    def labels(self, scale: float) -> LabelPriors:
        """The priors of all utterances, at least one."""
        mean = np.atleast_1d(self._sum / self._frames)
        return LabelPriors(priors=tuple(round(float(each), 6) for each in mean), scale=scale)


def load_priors(folder: Path, vocabulary: int) -> LabelPriors | None:
    """Those of a checkpoint with this size of vocabulary; None if it has none. Raises `ModelError`."""
    path = folder / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=LabelPriors)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise ModelError(f"{path} does not hold label priors: {error}") from error
    if len(found.priors) != vocabulary:
        raise ModelError(f"{path} has {len(found.priors)} priors, and the model has {vocabulary} tokens")
    return found


def save_priors(folder: Path, priors: LabelPriors) -> None:
    """Write them into a checkpoint folder."""
    (folder / FILE).write_bytes(msgspec.json.encode(priors) + b"\n")
