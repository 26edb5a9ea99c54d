"""Make one training example out of recordings: join, change speed, filter, add noise, set the level.

Everything is numpy on single utterances. The linear effects (room, 8 kHz line, colour, missing bands) are one product
with the spectrum. All random numbers come from the generator that is passed in.
"""

from __future__ import annotations

from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from ..streaming.frames import SAMPLE_RATE as RATE
from .settings import Augmentation

Samples = NDArray[np.float32]  # (samples,)
Signal = NDArray[np.floating]  # (samples,), between two effects

_MOST_HIDDEN: Final = 0.4  # of the frames of an example


def example(
    pieces: list[Samples], gaps: list[int], speed: float, noise: Samples, how: Augmentation, draw: np.random.Generator
) -> Samples:
    """Pieces with `gaps` samples of silence before, between and after them -> one waveform.

    `gaps` is one longer than `pieces`. `noise` is a clip without speech, of any length.
    """
    return disturbed(spoken(pieces, gaps, speed, draw), noise, how, draw)


def spoken(pieces: list[Samples], gaps: list[int], speed: float, draw: np.random.Generator) -> Samples:
    """The first half of `example`: pieces joined and played `speed` times as fast, with an RMS of 1."""
    x: Signal = join(pieces, gaps, draw)
    if speed != 1.0:
        x = stretch(x, speed)
    return cast(Samples, x / (np.sqrt(np.mean(x * x)) + 1e-9))


def disturbed(x: Signal, noise: Samples, how: Augmentation, draw: np.random.Generator) -> Samples:
    """The second half: room, line, noise and level. Levels are relative to the speech, whose RMS is 1."""
    narrow = draw.random() < how.narrow
    x = filtered(x, narrow, how, draw)
    if draw.random() < how.noise:
        x = mixed(x, noise, draw.uniform(*how.snr), draw)
    if draw.random() < how.hiss:
        x = x + _white(len(x), draw) * 10 ** (draw.uniform(-60, -20) / 20)
    if narrow and draw.random() < 0.5:
        x = mu_law(x)
    if draw.random() < how.clip:
        top = np.quantile(np.abs(x), draw.uniform(0.95, 0.999))
        x = np.clip(x, -top, top)
    return normalised(x) * np.float32(np.exp(draw.uniform(*how.gain)))


def join(pieces: list[Samples], gaps: list[int], draw: np.random.Generator) -> Samples:
    """Join pieces and gaps; the level of a piece differs from that of the first by at most 6 dB."""
    parts = [np.zeros(gaps[0], np.float32)]
    level = 0.0
    for piece, gap in zip(pieces, gaps[1:], strict=True):
        own = np.sqrt(np.mean(piece * piece)) + 1e-9
        level = level or own
        piece = piece * _edges(len(piece))
        parts += [piece * np.float32(level / own * 10 ** (draw.uniform(-3, 3) / 20)), np.zeros(gap, np.float32)]
    return np.concatenate(parts)


def _edges(count: int, fade: int = RATE // 200) -> Samples:
    """Ones with a ramp of 5 ms at both ends, so that a phrase begins and ends without a click."""
    ramp = np.ones(count, np.float32)
    fade = min(fade, count // 2)
    ramp[:fade] = np.arange(1, fade + 1) / (fade + 1)
    ramp[count - fade :] = ramp[:fade][::-1]
    return ramp


def stretch(x: Signal, speed: float) -> Samples:
    """Play `speed` times as fast (pitch and formants move along), by linear interpolation."""
    count = int(len(x) / speed)
    return np.interp(np.arange(count) * speed, np.arange(len(x)), x).astype(np.float32)


def filtered(x: Signal, narrow: bool, how: Augmentation, draw: np.random.Generator) -> Signal:
    """Room, telephone band, colour and SpecAugment's frequency masks, in the spectrum."""
    room, colour, bands = draw.random(3) < (how.room, how.colour, how.bands)
    if not (narrow or room or colour or bands):
        return x
    size = 1 << (len(x) + RATE // 2).bit_length() if room else len(x) + len(x) % 2
    spectrum = np.fft.rfft(x, size)
    hertz = np.linspace(0, RATE / 2, len(spectrum), dtype=np.float32)
    gain = np.ones(len(spectrum), np.float32)
    if colour:
        knots = np.sort(draw.uniform(60, 7800, 4))
        gain *= 10 ** (np.interp(hertz, knots, draw.uniform(-8, 8, 4)).astype(np.float32) / 20)
    if bands:
        for _ in range(draw.integers(1, 3)):
            low = 6500 * draw.random() ** 2
            gain[(hertz > low) & (hertz < low + draw.uniform(100, 300 + low / 4))] = 0
    if narrow:
        gain[(hertz > draw.uniform(3300, 4000)) | (hertz < draw.uniform(50, 300))] *= 0.003
    spectrum *= gain
    if room:
        spectrum *= np.fft.rfft(impulse(draw), size)
    return np.fft.irfft(spectrum, size)[: len(x)].astype(np.float32)


def impulse(draw: np.random.Generator) -> Samples:
    """A room's impulse response: the direct sound, then noise that falls by 60 dB in 0.1-0.6 s."""
    t60 = draw.uniform(0.1, 0.6)
    time = np.arange(int(min(t60, 0.45) * RATE), dtype=np.float32) / RATE
    tail = _white(len(time), draw) * np.exp(-6.9 * time / t60)
    tail[: draw.integers(16, 160)] = 0  # the first reflection comes 1-10 ms after the direct sound
    tail *= 10 ** (draw.uniform(-15, 0) / 20) / (np.sqrt(np.sum(tail * tail)) + 1e-9)
    tail[0] = 1.0
    return tail


def mixed(x: Signal, noise: Samples, snr: float, draw: np.random.Generator) -> Signal:
    """Add a random stretch of `noise`, repeated if it is too short, `snr` dB below the level of `x`."""
    noise = np.roll(noise, draw.integers(len(noise)))
    noise = np.resize(noise, len(x))
    power = np.sqrt(np.mean(noise * noise))
    return x if power < 1e-6 else x + noise * np.float32(np.sqrt(np.mean(x * x)) / power * 10 ** (-snr / 20))


def coloured(count: int, draw: np.random.Generator) -> Samples:
    """Noise whose spectrum falls by 0 to 6 dB an octave: from white, as of wind, to brown, as of traffic."""
    spectrum = np.fft.rfft(_white(count, draw))
    spectrum *= np.maximum(1, np.arange(len(spectrum))) ** -draw.uniform(0, 1)
    return normalised(np.fft.irfft(spectrum, count).astype(np.float32))


def mu_law(x: Signal) -> Samples:
    """Eight bits per sample as on a telephone line (G.711's curve)."""
    top = float(np.max(np.abs(x))) + 1e-9
    coded = cast(Signal, np.round(np.sign(x) * np.log1p(255 * np.abs(x) / top) / np.log(256) * 127) / 127)
    return (np.sign(coded) * (256 ** np.abs(coded) - 1) / 255 * top).astype(np.float32)


def normalised(x: Signal) -> Samples:
    """Zero mean and unit variance."""
    return ((x - x.mean()) / np.sqrt(x.var() + 1e-7)).astype(np.float32)


def masks(frames: int, how: Augmentation, draw: np.random.Generator) -> NDArray[np.bool_]:
    """SpecAugment in time: (frames,) bool, True where a frame is hidden from the encoder. Short examples keep most of
    their frames."""
    hidden = np.zeros(frames, bool)
    for _ in range(draw.poisson(how.mask_rate * frames / 50)):
        start = draw.integers(frames)
        mask = slice(start, start + draw.integers(1, how.mask_frames + 1))
        if hidden.sum() + min(frames, mask.stop) - start <= _MOST_HIDDEN * frames:
            hidden[mask] = True
    return hidden


def _white(count: int, draw: np.random.Generator) -> Samples:
    return draw.standard_normal(count, np.float32)
