"""The sources of a PulseAudio or PipeWire server, as its program `pactl` lists them.

PortAudio reaches them through ALSA's plug-ins, which show one device for all of them. The plug-ins take the source from
the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

PATIENCE: Final = 3.0  # seconds for an answer of the server


@dataclass(frozen=True)
class SoundSource:
    """A source under the server's own names."""

    name: str  # alsa_input.usb-Rode_NT-00.mono
    description: str  # Rode NT Mono
    server: str  # PulseAudio or PipeWire
    channels: int
    sample_rate: int  # Hz
    default: bool


class _Info(msgspec.Struct):
    server_name: str  # pulseaudio, or PulseAudio (on PipeWire 1.4.2)
    default_source_name: str = ""


class _Listed(msgspec.Struct):
    index: int
    name: str
    sample_specification: str  # s16le 2ch 44100Hz
    description: str = ""


class _Output(msgspec.Struct):
    """A program that records."""

    source: int
    properties: dict[str, str] = {}


def list_sources() -> list[SoundSource]:
    """Every source, also those that record what a loudspeaker plays (monitors). Empty without `pactl` or a server."""
    about = _ask(_Info, "info")
    if about is None:
        return []
    server = "PipeWire" if "PipeWire" in about.server_name else "PulseAudio"
    sources: list[SoundSource] = []
    for one in _ask(list[_Listed], "list", "sources") or []:
        _, channels, rate = one.sample_specification.split()
        default = one.name == about.default_source_name
        form = int(channels.removesuffix("ch")), int(rate.removesuffix("Hz"))
        sources.append(SoundSource(one.name, one.description or one.name, server, *form, default))
    return sources


def choose_source(name: str) -> None:
    """Let devices that this process opens from now on record from that source."""
    os.environ["PULSE_SOURCE"] = name  # ALSA's plug-in of PulseAudio
    os.environ["PIPEWIRE_NODE"] = name.removesuffix(".monitor")  # the one of PipeWire


def recorded_source() -> str | None:
    """Name of the source from which this process records; None if it is unknown."""
    names = {one.index: one.name for one in _ask(list[_Listed], "list", "sources") or []}
    for output in _ask(list[_Output], "list", "source-outputs") or []:
        if output.properties.get("application.process.id") == str(os.getpid()):
            return names.get(output.source)
    return None


def _ask(answer: type[T], *question: str) -> T | None:
    """The answer of `pactl`; None if there is none."""
    if sys.platform != "linux":
        return None
    try:
        done = subprocess.run(
            ["pactl", "--format=json", *question],
            capture_output=True,
            timeout=PATIENCE,
            check=True,
            env=os.environ | {"LC_ALL": "C.UTF-8"},  # other languages have other words and decimal points
        )
        return msgspec.json.decode(done.stdout, type=answer)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        return None
