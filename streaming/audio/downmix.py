"""Mixes many channels to one: their mean, or the loudest channel where the mean cancels.

A microphone with inverted phase sends the same sound on two channels with opposite signs, and their mean is silence.
The choice for a block depends only on earlier blocks, so packet sizes do not change the output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BLOCK_S: Final = 0.1
_MEMORY: Final = 0.97  # weight of earlier blocks in the average energies: about 3 s
_CANCELS: Final = 0.1  # the mean cancels below this part of the energy that a mean of independent channels has
_SILENCE: Final = 1e-7  # mean square: -70 dBFS


@dataclass(frozen=True, slots=True)
class Downmix:
    """The state after the samples so far; `receive` returns the next one."""

    channels: int
    block: int  # samples
    held: Float32  # (n, channels), samples of the current block
    energies: Float64  # (channels + 1,), of each channel and of their mean
    channel: int | None = None  # the output channel; None: the mean

    @classmethod
    def of(cls, channels: int, sample_rate: int) -> Downmix:
        block = round(_BLOCK_S * sample_rate)
        return cls(channels, block, np.empty((0, channels), np.float32), np.zeros(channels + 1))

    def receive(self, samples: Float32) -> tuple[Float32, Downmix]:
        """Take samples, (n, channels), and return one channel, (n,), and the new state."""
        if self.channels == 1:
            return samples[:, 0], self
        state, parts = self, list[Float32]()
        while len(samples):
            part, samples = samples[: state.block - len(state.held)], samples[state.block - len(state.held) :]
            parts.append(_mean(part) if state.channel is None else part[:, state.channel])
            state = replace(state, held=np.concatenate((state.held, part)))
            if len(state.held) == state.block:
                state = state._judged()
        return (np.concatenate(parts) if parts else np.empty(0, np.float32)), state

    def _judged(self) -> Downmix:
        """The state after a whole block, with a new choice."""
        wide = np.column_stack((self.held, _mean(self.held))).astype(np.float64)
        energies = _MEMORY * self.energies + (1 - _MEMORY) * np.square(wide).mean(axis=0)
        *own, mean = energies.tolist()
        cancels = max(own) > _SILENCE * (1 - _MEMORY) and mean < _CANCELS * sum(own) / self.channels**2
        channel = self.channel
        if not cancels:
            channel = None
        elif channel is None or own[channel] < max(own) / 2:  # a change back and forth would flip the sign
            channel = own.index(max(own))
        return replace(self, held=self.held[:0], energies=energies, channel=channel)


def _mean(samples: Float32) -> Float32:
    return cast(Float32, samples.mean(axis=1, dtype=np.float32))
