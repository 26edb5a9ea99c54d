"""The microphones of this machine: PortAudio's devices, and the sources of a PulseAudio or PipeWire server."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any, Final

from ...streaming.errors import XlsrLiveError
from ...streaming.quiet import quiet
from ..console import needs
from .sound_server import list_sources


class MicrophoneError(XlsrLiveError):
    """There is no usable microphone. The message says what to do."""

    code = "microphone"


@dataclass(frozen=True)
class Device:
    """A microphone or another input of the sound system."""

    index: int  # PortAudio's
    name: str
    host: str  # the sound system: ALSA, Core Audio, WASAPI, PulseAudio, PipeWire
    channels: int
    sample_rate: int  # Hz, the device's own
    default: bool
    source: str = ""  # its name on a sound server, which is reached through the device `index`


# PortAudio's devices that lead to a sound server, the best first. In most systems "default" does, too.
SERVER_DEVICES: Final = ("pulse", "pipewire", "default")


def input_devices() -> list[Device]:
    """Every input device; the sources of a sound server come last. Raises `MicrophoneError` without PortAudio."""
    sounddevice = portaudio()
    with quiet():
        hosts = [host["name"] for host in sounddevice.query_hostapis()]
        default = sounddevice.default.device[0]
        found = [
            Device(
                index,
                str(one["name"]),
                hosts[one["hostapi"]],
                int(one["max_input_channels"]),
                round(one["default_samplerate"]),
                index == default,
            )
            for index, one in enumerate(sounddevice.query_devices())
        ]
    devices = [device for device in found if device.channels > 0]
    through = {device.name: device.index for device in reversed(devices)}
    index = next((through[name] for name in SERVER_DEVICES if name in through), None)
    if index is not None:
        for one in list_sources():
            form = one.server, one.channels, one.sample_rate, one.default
            devices.append(Device(index, one.description, *form, source=one.name))
    return devices


def choose(found: list[Device], wanted: str | None) -> Device:
    """The device with the number or name `wanted`, or a unique part of the name; None: the default device.

    A sound server's source comes before PortAudio's devices of that name: the server usually holds those open.
    """
    if not found:
        raise MicrophoneError(f"no input device: {no_devices()}")
    if wanted is None:
        return next((device for device in found if device.default and not device.source), found[0])
    if wanted.isdecimal():
        matching = [device for device in found if device.index == int(wanted) and not device.source]
    else:
        name = wanted.casefold()
        matching = [device for device in found if name in (device.name.casefold(), device.source.casefold())]
        matching = matching or [device for device in found if name in f"{device.name}\n{device.source}".casefold()]
        matching = [device for device in matching if device.source] or matching
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(device.source or f"{device.index} {device.name}" for device in matching)
        raise MicrophoneError(f"{wanted!r} matches several input devices ({names}): give the number or the whole name")
    raise MicrophoneError(f"no input device {wanted!r}; see: xlsr-live devices")


def no_devices() -> str:
    """Advice for a machine without microphones."""
    if sys.platform == "linux":
        if os.path.isdir("/dev/snd") and not all(
            os.access(f"/dev/snd/{one}", os.R_OK) for one in os.listdir("/dev/snd")
        ):
            return "this user may not read /dev/snd (add it to the group audio, and log in again)"
        return "plug one in, or start a sound server (PulseAudio, PipeWire) and give this machine its ALSA plug-in"
    return "plug one in, and allow this program to use it in the system's privacy settings"


def portaudio() -> Any:
    """The sounddevice module (untyped). Raises `MissingPackage` or `MicrophoneError`."""
    with needs("mic", "the microphone"), quiet():
        try:
            return importlib.import_module("sounddevice")
        except OSError as error:
            raise MicrophoneError(
                "the PortAudio library is missing: install it (Debian and Ubuntu: apt install libportaudio2)"
            ) from error
